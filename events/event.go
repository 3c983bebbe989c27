package events

import (
	"encoding/json"
	"strings"
	"time"
)

// Event is one immutable statement on the log: an intent (class desired) or a reported fact (class
// observed) about one object. On the wire it is a CloudEvent 1.0 in NATS binary mode; see [Encode]
// and [Decode].
type Event struct {
	// Sequence and Stored are given by the log: 0 and zero before the event is appended.
	Sequence Sequence
	Stored   time.Time

	// ID is the ce-id, unique for ever; an append that is retried keeps it. A log gives one where it is "".
	ID      string
	Subject Subject
	// Type is io.orlog.<kind>.<verb>, for example io.orlog.deployment.scaled. See [TypeOf].
	Type string
	// Source is the component that appended: "gateway", "scheduler", "agent/node-1".
	Source string
	// Time is when the writer decided, by the writer's clock. [Event.Stored] is the log's.
	Time time.Time
	// Actor is the authenticated identity on whose authority the event was appended; OnBehalfOf the identity
	// that it acted for, "" where it acted for itself.
	Actor      string
	OnBehalfOf string
	// Cause is the event that led to this one, Correlation the first event of the chain (a person's or a
	// node's). 0 where the event starts a chain: readers take the event's own sequence for both.
	Cause       Sequence
	Correlation Sequence
	// Reason is a person's words or a machine-readable (JSON) decision record. May be "".
	Reason string
	// UID is metadata.uid of the object.
	UID string
	// TraceParent is where the event belongs in a distributed trace, a W3C traceparent; "" where it belongs to none.
	// An event that another led to carries on the other's trace: see [Cause].
	TraceParent string

	// Object is JSON. Desired: the whole object without status (or with it, where status was written by the
	// same request; "status":null removes it). Deleted: the last state. Observed: metadata.uid and status.
	Object json.RawMessage
	// Changes is an RFC 6902 patch from what was to what is, whose test operations hold the old values.
	Changes json.RawMessage
}

// Cause is what a decision or a request carries along, so that the events it leads to can name their origin.
type Cause struct {
	// Sequence is the event that led here, Correlation the first of the chain.
	Sequence    Sequence
	Correlation Sequence
	Reason      string
	// TraceParent is the trace that led here, "" where none is known. What is done because of the cause belongs to
	// the same trace.
	TraceParent string
}

// CauseOf makes the Cause that an event's consequences carry.
func CauseOf(e Event) Cause {
	c := e.Correlation
	if c == 0 {
		c = e.Sequence
	}
	return Cause{Sequence: e.Sequence, Correlation: c, TraceParent: e.TraceParent}
}

// TypePrefix begins every event type.
const TypePrefix = "io.orlog."

// Verb names what happened, the last part of an event type.
type Verb string

// Verbs that the log itself depends on. Finer names are chosen by the writers.
const (
	Created Verb = "created"
	Updated Verb = "updated"
	Deleted Verb = "deleted"
)

// TypeOf makes an event type: io.orlog.<kind in lower case>.<verb>.
func TypeOf(kind string, verb Verb) string {
	return TypePrefix + strings.ToLower(kind) + "." + string(verb)
}

// Verb is the last part of the event's type.
func (e Event) Verb() Verb { return Verb(e.Type[strings.LastIndexByte(e.Type, '.')+1:]) }

// Kind is the lower-case kind in the event's type.
func (e Event) Kind() string {
	t := strings.TrimPrefix(e.Type, TypePrefix)
	if i := strings.IndexByte(t, '.'); i >= 0 {
		return t[:i]
	}
	return t
}

// IsDeletion reports whether the event ends its object's life.
func (e Event) IsDeletion() bool { return e.Subject.Class == Desired && e.Verb() == Deleted }

// Validate says what keeps the event from being appended, naming the field.
func (e Event) Validate() error {
	if err := e.Subject.Validate(); err != nil {
		return err
	}
	if err := e.checkAttributes(); err != nil {
		return err
	}
	if len(e.Object) == 0 || e.Object[0] != '{' || !validJSON(e.Object) {
		return invalidf("event %s about %s: object must be a JSON object", e.Type, e.Subject.Key)
	}
	if len(e.Changes) > 0 && (e.Changes[0] != '[' || !validJSON(e.Changes)) {
		return invalidf("event %s about %s: changes must be a JSON array", e.Type, e.Subject.Key)
	}
	return nil
}

// checkAttributes is the part of Validate that is about what comes in headers.
func (e Event) checkAttributes() error {
	rest, ok := strings.CutPrefix(e.Type, TypePrefix)
	if kind, verb, two := strings.Cut(rest, "."); !ok || !two || kind == "" || verb == "" || strings.Contains(verb, ".") {
		return invalidf("event about %s: type %q: want %s<kind>.<verb>", e.Subject.Key, e.Type, TypePrefix)
	}
	for _, f := range []struct{ name, value string }{{"source", e.Source}, {"actor", e.Actor}, {"uid", e.UID}} {
		if f.value == "" {
			return invalidf("event %s about %s: %s is required", e.Type, e.Subject.Key, f.name)
		}
	}
	if e.Time.IsZero() {
		return invalidf("event %s about %s: time is required", e.Type, e.Subject.Key)
	}
	return nil
}
