package projections

import (
	"bytes"
	"encoding/json"

	"github.com/orlog-io/orlog/events"
)

// Change is one event with the object's state before and after it.
type Change struct {
	// Event is without its Object: that is in Next.
	Event events.Event
	// Prev is the state before; without Object where the object did not exist. Next is the state after; its
	// Object is the last state where the event deleted it.
	Prev, Next events.State
	// Changed is false where the event changed nothing but the cursors. See [Selector.Ignored].
	Changed bool
}

func newChange(e events.Event, prev, next events.State, changed bool) Change {
	e.Object = nil
	if !prev.Exists() {
		prev.Object = nil
	}
	if !next.Exists() && !changed {
		next.Object = nil
	}
	return Change{Event: e, Prev: prev, Next: next, Changed: changed}
}

// size is roughly what a change takes in memory.
func (c *Change) size() int {
	return 700 + len(c.Next.Object) + len(c.Event.Changes) + len(c.Event.Reason)
}

// objectOf makes an event's object out of the states around it: the one that, folded, gives Next again. For
// an observed event that is uid and status, for a desired one the whole object, with status only where the
// event set it.
func objectOf(e events.Event, prev, next events.State) json.RawMessage {
	if e.IsDeletion() {
		return next.Object
	}
	var now, was map[string]json.RawMessage
	if json.Unmarshal(next.Object, &now) != nil {
		return next.Object
	}
	if prev.Exists() && prev.UID == next.UID && json.Unmarshal(prev.Object, &was) != nil {
		was = nil
	}
	status, has := now["status"]
	if e.Subject.Class == events.Observed {
		if !has {
			status = json.RawMessage("null")
		}
		return marshal(map[string]any{"metadata": map[string]string{"uid": e.UID}, "status": status})
	}
	before, had := was["status"]
	switch {
	case has && had && bytes.Equal(status, before):
		delete(now, "status")
	case had && !has:
		now["status"] = json.RawMessage("null")
	}
	return marshal(now)
}

func marshal(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil { // cannot happen: every value came out of a parse
		panic("projections: marshalling parsed JSON: " + err.Error())
	}
	return b
}
