package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/orlog-io/orlog/events"
)

const (
	// defaultLimit and maxLimit bound how many entries one answer of history holds.
	defaultLimit, maxLimit = 1000, 10000
	// maxChain bounds how far why follows causes. A chain is as long as there are kinds of controllers, so a
	// longer one is a fault in the log's data.
	maxChain = 100
)

// entry is one event, as history and why tell it.
type entry struct {
	Sequence    events.Sequence `json:"sequence"`
	Time        time.Time       `json:"time"`
	Actor       string          `json:"actor,omitempty"`
	OnBehalfOf  string          `json:"onBehalfOf,omitempty"`
	Type        string          `json:"type,omitempty"`
	Verb        string          `json:"verb,omitempty"`
	Class       events.Class    `json:"class,omitempty"`
	Subject     string          `json:"subject,omitempty"`
	Source      string          `json:"source,omitempty"`
	UID         string          `json:"uid,omitempty"`
	Reason      string          `json:"reason,omitempty"`
	Cause       events.Sequence `json:"cause,omitempty"`
	Correlation events.Sequence `json:"correlation,omitempty"`
	Changes     []change        `json:"changes,omitempty"`
	// Hidden: the reader may not see the object that this event is about.
	Hidden bool `json:"hidden,omitempty"`
}

// change is one field that moved; From is absent where it was added, To where it was removed.
type change struct {
	Path string          `json:"path"`
	From json.RawMessage `json:"from,omitempty"`
	To   json.RawMessage `json:"to,omitempty"`
}

// when is the log's time for an event, or the writer's where the log keeps none.
func when(e events.Event) time.Time {
	if e.Stored.IsZero() {
		return e.Time.UTC()
	}
	return e.Stored.UTC()
}

func tell(e events.Event) (entry, error) {
	patch, err := events.DecodeChanges(e.Changes)
	if err != nil {
		return entry{}, fmt.Errorf("event %d: %w", e.Sequence, err)
	}
	return entry{Sequence: e.Sequence, Time: when(e), Actor: e.Actor, OnBehalfOf: e.OnBehalfOf, Type: e.Type, Verb: string(e.Verb()),
		Class: e.Subject.Class, Subject: e.Subject.Key.String(), Source: e.Source, UID: e.UID, Reason: e.Reason,
		Cause: e.Cause, Correlation: e.Correlation, Changes: changes(patch)}, nil
}

// changes joins each test operation of a patch, which holds the old value, with the operation that it guards.
func changes(patch []events.Change) []change {
	var out []change
	var old *events.Change
	for i, op := range patch {
		if op.Op == "test" {
			old = &patch[i]
			continue
		}
		c := change{Path: op.Path, To: op.Value}
		if op.Op == "remove" {
			c.To = nil
		}
		if old != nil && old.Path == op.Path {
			c.From = old.Value
		}
		old = nil
		out = append(out, c)
	}
	return out
}

// history is {entries}: every event about an object, oldest first, earlier lives and deletions included.
// limit keeps the newest; from and to (sequences, inclusive) narrow it down.
func (e *endpoints) history(r *http.Request) (any, error) {
	q, err := parseObjectQuery(r)
	if err != nil {
		return nil, err
	}
	if err := e.mayAsk(r, "get", q); err != nil {
		return nil, err
	}
	limit := defaultLimit
	if q.limit > 0 {
		limit = min(q.limit, maxLimit)
	}
	newest, err := e.newest(q, limit)
	if err != nil {
		return nil, err
	}
	entries := make([]entry, 0, len(newest))
	for _, event := range newest {
		t, err := tell(event)
		if err != nil {
			return nil, err
		}
		entries = append(entries, t)
	}
	return map[string]any{"object": q.Key.String(), "entries": entries}, nil
}

// newest collects an object's newest events, oldest of them first. None at all is a not-found error.
func (e *endpoints) newest(q query, limit int) ([]events.Event, error) {
	var kept []events.Event
	for event, err := range e.settings.Store.Timeline(q.Key, max(q.from, 1), q.to) {
		if err != nil {
			return nil, err
		}
		event.Object = nil
		if kept = append(kept, event); len(kept) >= 2*limit {
			kept = slices.Delete(kept, 0, len(kept)-limit)
		}
	}
	if len(kept) == 0 {
		return nil, noHistory(q.Key)
	}
	return kept[max(0, len(kept)-limit):], nil
}

func noHistory(k events.Key) error {
	return refuse(http.StatusNotFound, metav1.StatusReasonNotFound, "the log has no event about %s", k)
}

// why is {chain}: an object's newest event (or, with ?of=created, the one that began its present life, or
// with ?sequence= any of its events), then the event that caused it, and so on back to the first.
func (e *endpoints) why(r *http.Request) (any, error) {
	q, err := parseObjectQuery(r, "of", "sequence")
	if err != nil {
		return nil, err
	}
	if err := e.mayAsk(r, "get", q); err != nil {
		return nil, err
	}
	all, err := e.mayAnything(r)
	if err != nil {
		return nil, err
	}
	event, err := e.starting(r, q)
	if err != nil {
		return nil, err
	}
	chain, err := e.causes(r.Context(), event, all)
	if err != nil {
		return nil, err
	}
	return map[string]any{"object": q.Key.String(), "chain": chain}, nil
}

// starting picks the event that why begins with.
func (e *endpoints) starting(r *http.Request, q query) (events.Event, error) {
	of, sequence := r.URL.Query().Get("of"), r.URL.Query().Get("sequence")
	if sequence != "" {
		seq, err := events.ParseSequence(sequence)
		if err != nil {
			return events.Event{}, apierrors.NewBadRequest(fmt.Sprintf("parameter sequence: %q is not a sequence", sequence))
		}
		q.from, q.to = seq, seq
	} else if of != "" && of != "newest" && of != "created" {
		return events.Event{}, apierrors.NewBadRequest(fmt.Sprintf("parameter of: %q is neither newest nor created", of))
	}
	var found *events.Event
	uid := ""
	for event, err := range e.settings.Store.Timeline(q.Key, max(q.from, 1), q.to) {
		if err != nil {
			return events.Event{}, err
		}
		// A report about an earlier life is no reason for this one.
		if event.Subject.Class == events.Observed && event.UID != uid && uid != "" {
			continue
		}
		if of != "created" || (event.UID != uid && !event.IsDeletion()) {
			found = &event
		}
		uid = event.UID
	}
	if found == nil {
		return events.Event{}, noHistory(q.Key)
	}
	return *found, nil
}

// causes follows Cause from an event back to the first. Events about objects that the reader may not get
// are named by their sequence only.
func (e *endpoints) causes(ctx context.Context, event events.Event, all bool) ([]entry, error) {
	var chain []entry
	for len(chain) < maxChain {
		visible := all || len(chain) == 0
		if !visible {
			var err error
			if visible, err = e.may(ctx, "get", event.Subject.Key); err != nil && !apierrors.IsForbidden(err) {
				return nil, err
			}
		}
		if visible {
			t, err := tell(event)
			if err != nil {
				return nil, err
			}
			chain = append(chain, t)
		} else {
			chain = append(chain, entry{Sequence: event.Sequence, Time: when(event), Cause: event.Cause, Hidden: true})
		}
		next, found, err := e.before(event)
		if err != nil {
			return nil, err
		}
		if !found {
			break
		}
		event = next
	}
	return chain, nil
}

// before is the event that led to another: its cause or, for a report without one, the newest intent about
// the same object, because that is what is reported on.
func (e *endpoints) before(event events.Event) (events.Event, bool, error) {
	switch {
	case event.Cause != 0 && event.Cause < event.Sequence:
		return e.settings.Store.EventAt(event.Cause)
	case event.Cause != 0 || event.Subject.Class == events.Desired:
		return events.Event{}, false, nil
	}
	var intent events.Event
	for other, err := range e.settings.Store.Timeline(event.Subject.Key, 1, event.Sequence) {
		if err != nil {
			return intent, false, err
		}
		if other.Subject.Class == events.Desired && other.UID == event.UID {
			intent = other
		}
	}
	return intent, intent.Sequence != 0, nil
}
