package sim

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	jsonpatch "github.com/evanphx/json-patch/v5"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/services/loop"
)

// object is a JSON object of any kind, as the gateway sees all of them alike.
type object map[string]any

// parse reads JSON and leaves out nulls, which typed objects write for empty times.
func parse(b []byte) object {
	var o map[string]any
	if err := json.Unmarshal(b, &o); err != nil {
		panic("sim: parsing an object that was encoded here: " + err.Error())
	}
	dropNulls(o)
	return o
}

func dropNulls(v any) {
	switch x := v.(type) {
	case map[string]any:
		for k, e := range x {
			if e == nil {
				delete(x, k)
			} else {
				dropNulls(e)
			}
		}
	case []any:
		for _, e := range x {
			dropNulls(e)
		}
	}
}

func encode(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		panic("sim: encoding an object: " + err.Error())
	}
	return b
}

func (o object) plain() map[string]any { return o }

func (o object) clone() object { return parse(encode(o)) }

// sub is a field that is an object; made where it is missing.
func (o object) sub(field string) object {
	m, ok := o[field].(map[string]any)
	if !ok {
		m = map[string]any{}
		o[field] = m
	}
	return m
}

// read is a field that is an object, for reading only: it is no part of an object that lacks it.
func (o object) read(field string) object {
	m, _ := o[field].(map[string]any)
	if m == nil {
		m = map[string]any{}
	}
	return m
}

func (o object) meta() object { return o.sub("metadata") }
func (o object) spec() object { return o.read("spec") }

func (o object) text(field string) string {
	s, _ := o[field].(string)
	return s
}

func (o object) number(field string) float64 {
	n, _ := o[field].(float64)
	return n
}

func (o object) list(field string) []any {
	l, _ := o[field].([]any)
	return slices.Clone(l)
}

// set replaces a field; nil removes it.
func (o object) set(field string, value any) {
	switch v := value.(type) {
	case nil:
		delete(o, field)
	case object:
		o[field] = map[string]any(v)
	default:
		o[field] = v
	}
}

// keep takes a field over from another object.
func (o object) keep(from object, field string) { keep(o, from, field) }

func keep(to, from object, field string) { to.set(field, from[field]) }

func (o object) without(field string) object {
	out := make(object, len(o))
	for k, v := range o {
		if k != field {
			out[k] = v
		}
	}
	return out
}

func same(a, b any) bool { return reflect.DeepEqual(a, b) }

func withElement(list []any, e string) []any {
	if slices.Contains(list, any(e)) {
		return list
	}
	return append(list, e)
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// kindOf is a key's kind in lower case.
func kindOf(key events.Key) string {
	switch key.Resource {
	case "endpoints":
		return "endpoints"
	}
	return strings.TrimSuffix(key.Resource, "s")
}

// nodeOf is the node that an object concerns, as in the gateway's subjects.
func nodeOf(key events.Key, o object) string {
	switch {
	case loop.Pods.Is(key):
		return o.spec().text("nodeName")
	case loop.Nodes.Is(key), loop.Leases.Is(key) && key.Namespace == corev1.NamespaceNodeLease:
		return key.Name
	}
	return ""
}

// verbOf names an update by what a person would say changed.
func verbOf(key events.Key, was, is object) events.Verb {
	a, b := was.spec(), is.spec()
	switch {
	case !same(a["replicas"], b["replicas"]):
		return "scaled"
	case !same(a["template"], b["template"]):
		return "template-changed"
	case !same(a["paused"], b["paused"]):
		return "paused-or-resumed"
	case !same(a["unschedulable"], b["unschedulable"]):
		return "cordoned-or-uncordoned"
	case !same(a["taints"], b["taints"]):
		return "taints-changed"
	case !same(was.meta()["ownerReferences"], is.meta()["ownerReferences"]):
		return "owner-changed"
	case !same(was.meta()["finalizers"], is.meta()["finalizers"]):
		return "finalizers-changed"
	case !same(was.meta()["annotations"], is.meta()["annotations"]):
		return "annotated"
	case !same(was.meta()["labels"], is.meta()["labels"]):
		return "labelled"
	case key.Resource == "endpoints" || key.Resource == "endpointslices":
		return "endpoints-changed"
	}
	return events.Updated
}

// patched applies a patch to an object.
func patched(e loop.Effect, was object) (object, error) {
	b := encode(was)
	var err error
	switch e.PatchType {
	case types.StrategicMergePatchType:
		b, err = strategicpatch.StrategicMergePatch(b, e.Patch, kindsOf[e.Resource.Resource])
	case types.MergePatchType:
		b, err = jsonpatch.MergePatch(b, e.Patch)
	default:
		err = fmt.Errorf("patch type %q", e.PatchType)
	}
	if err != nil {
		return nil, fmt.Errorf("patching %s: %w: %w", e.Key, events.ErrInvalid, err)
	}
	return parse(b), nil
}

// kindsOf are the Go types of what is patched by strategic merge.
var kindsOf = map[string]any{"pods": corev1.Pod{}, "replicasets": appsv1.ReplicaSet{}}
