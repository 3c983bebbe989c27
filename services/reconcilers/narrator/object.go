package narrator

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	jsonpatch "github.com/evanphx/json-patch/v5"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/orlog-io/orlog/events"
)

// object is as much of an event's object as tales are made of: an intent's has no status, a report's only
// that and the uid.
type object struct {
	Metadata struct {
		OwnerReferences   []metav1.OwnerReference `json:"ownerReferences"`
		DeletionTimestamp *metav1.Time            `json:"deletionTimestamp"`
	} `json:"metadata"`
	Spec struct {
		Replicas      *int32 `json:"replicas"`
		NodeName      string `json:"nodeName"`
		Unschedulable bool   `json:"unschedulable"`
	} `json:"spec"`
	Status struct {
		Conditions []condition `json:"conditions"`
	} `json:"status"`
}

type condition struct{ Type, Status, Reason, Message string }

func parse(b []byte) (o object, err error) {
	if err = json.Unmarshal(b, &o); err != nil {
		err = fmt.Errorf("its object: %w", err)
	}
	return o, err
}

func (o object) condition(kind string) condition {
	for _, c := range o.Status.Conditions {
		if c.Type == kind {
			return c
		}
	}
	return condition{}
}

// replicas is what a workload's spec asks for: 1 where it does not say.
func (o object) replicas() int32 {
	if o.Spec.Replicas == nil {
		return 1
	}
	return *o.Spec.Replicas
}

// begins says whether the event is the first of its object's life, and ends whether it is the first that
// wants the object gone.
func (s scene) begins() bool {
	return s.Subject.Class == events.Desired && s.Verb() == events.Created
}

func (s scene) ends() (bool, error) {
	if s.IsDeletion() { // carries the last state: marked, where the deletion was asked for before
		return s.object.Metadata.DeletionTimestamp == nil, nil
	}
	if s.object.Metadata.DeletionTimestamp == nil {
		return false, nil
	}
	was, known, err := s.before()
	return known && was.Metadata.DeletionTimestamp == nil, err
}

// before is the object as the event found it: the event's changes, taken back. false: there was none, or
// the event does not say.
func (s scene) before() (was object, known bool, err error) {
	if len(s.Changes) == 0 {
		return object{}, false, nil
	}
	changes, err := events.DecodeChanges(s.Changes)
	if err != nil {
		return object{}, false, fmt.Errorf("its changes: %w", err)
	}
	if s.Subject.Class == events.Observed { // the rest is not the report's
		changes = slices.DeleteFunc(changes, func(c events.Change) bool {
			return c.Path != "/status" && !strings.HasPrefix(c.Path, "/status/")
		})
	}
	back, err := json.Marshal(inverse(changes, s.Object))
	if err != nil {
		return object{}, false, err
	}
	patch, err := jsonpatch.DecodePatch(back)
	if err != nil {
		return object{}, false, fmt.Errorf("its changes: %w", err)
	}
	b, err := patch.Apply(s.Object)
	if err != nil {
		return object{}, false, fmt.Errorf("taking its changes back: %w", err)
	}
	was, err = parse(b)
	return was, err == nil, err
}

// inverse is the patch that takes changes back. A change of a part that the event does not carry (an intent's
// status) is left out.
func inverse(changes []events.Change, in json.RawMessage) []events.Change {
	var parts map[string]json.RawMessage
	if json.Unmarshal(in, &parts) != nil {
		return nil
	}
	out := []events.Change{}
	var old json.RawMessage // what the last test held
	for _, c := range changes {
		if c.Op != "test" && !carried(c, parts) {
			continue
		}
		switch c.Op {
		case "test":
			old = c.Value
		case "add":
			out = append(out, events.Change{Op: "remove", Path: c.Path})
		case "remove":
			out = append(out, events.Change{Op: "add", Path: c.Path, Value: old})
		case "replace":
			out = append(out, events.Change{Op: "replace", Path: c.Path, Value: old})
		}
	}
	slices.Reverse(out)
	return out
}

// carried says whether an object with these parts holds the place of a change.
func carried(c events.Change, parts map[string]json.RawMessage) bool {
	top, _, below := strings.Cut(strings.TrimPrefix(c.Path, "/"), "/")
	part, there := parts[top]
	if below {
		return there && !bytes.Equal(part, []byte("null"))
	}
	return there != (c.Op == "remove")
}
