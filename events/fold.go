package events

import (
	"bytes"
	"encoding/json"
)

// State is one object as of some sequence: what Fold makes of the events about it. The zero State (with its
// Key) is an object that nobody has spoken of.
type State struct {
	Key  Key
	UID  string
	Node string
	// Object is the whole object as JSON, status included, without metadata.resourceVersion: that is
	// Revision. After a deletion it is the last state.
	Object json.RawMessage
	// Deleted: the object is gone and this is its tombstone.
	Deleted bool
	// Revision is the event that last changed the object: its resourceVersion. Created is the first event of
	// its present life.
	Revision, Created Sequence
	// Desired and Observed are the newest events of each class about the object, counted or ignored: what
	// the next writer expects.
	Desired, Observed Sequence
}

// Exists reports whether the object is alive.
func (s State) Exists() bool { return s.Revision != 0 && !s.Deleted }

// Newest is the newest event of either class about the object: what ExpectObject compares.
func (s State) Newest() Sequence { return max(s.Desired, s.Observed) }

// Fold applies one event about an object to the object's state. It is pure and total: every event gives a
// state, and the same events always give the same one. changed is false where the event has no effect but to
// move Desired or Observed (a report about an object that is gone, was replaced or is not the reporter's, or what is no
// event: see [Read]).
//
// A desired event replaces the object; where it carries no status, the previous status stays. An observed
// event replaces the status if its uid is the living object's and it comes from the node that the object is at, or from
// no node. A deletion leaves a tombstone with the last
// state. metadata.managedFields entries of the status subresource travel with the status.
func Fold(prev State, e Event) (next State, changed bool) {
	next = prev
	next.Key = e.Subject.Key
	if e.Subject.Class == Observed {
		next.Observed = e.Sequence
		// The server lets a node append under its own name only; what the objects of others are like is not its to say.
		strange := e.Subject.Node != "" && e.Subject.Node != prev.Node
		if !prev.Exists() || prev.UID != e.UID || strange || e.Rejected() {
			return next, false
		}
		obj, ok := withStatus(prev.Object, e.Object, e.Subject.Node != "")
		if !ok {
			return next, false
		}
		next.Object, next.Revision = obj, e.Sequence
		return next, true
	}
	next.Desired = e.Sequence
	if e.Rejected() {
		return next, false
	}
	if e.IsDeletion() {
		if !prev.Exists() {
			return next, false
		}
		next.Deleted, next.Revision = true, e.Sequence
		if len(e.Object) > 0 {
			next.Object = e.Object
		}
		return next, true
	}
	next.Object = e.Object
	if prev.Exists() && prev.UID == e.UID {
		next.Object = keepStatus(prev.Object, e.Object)
	} else {
		next.Created = e.Sequence
		next.Object = keepStatus(nil, e.Object)
	}
	next.UID, next.Node, next.Deleted, next.Revision = e.UID, e.Subject.Node, false, e.Sequence
	return next, true
}

var null = []byte("null")

// withStatus is obj with the status, and its managed fields, of report. A node's own report, which no API server
// has checked, must have an object for a status.
func withStatus(obj, report json.RawMessage, fromNode bool) (json.RawMessage, bool) {
	_, o := parse(obj)
	_, r := parse(report)
	status := r.get("status")
	if o == nil || status == nil || fromNode && status[0] != '{' && !bytes.Equal(status, null) {
		return nil, false
	}
	if bytes.Equal(status, null) {
		status = nil
	}
	o = o.set("status", status)
	if entries := statusManagers(r.get("metadata")); entries != nil {
		o = o.setStatusManagers(entries)
	}
	return o.bytes(), true
}

// WithoutStatus is an object as it stands, but for its status; ok is false where it has none, or is no object.
func WithoutStatus(object json.RawMessage) (without json.RawMessage, ok bool) {
	_, o := parse(object)
	if o.get("status") == nil {
		return nil, false
	}
	return o.set("status", nil).bytes(), true
}

// keepStatus is obj, with prev's status where obj does not speak of one.
func keepStatus(prev, obj json.RawMessage) json.RawMessage {
	whole, o := parse(obj)
	if o == nil {
		return obj
	}
	if status := o.get("status"); status != nil {
		if !bytes.Equal(status, null) {
			return whole
		}
		return o.set("status", nil).bytes()
	}
	_, p := parse(prev)
	status := p.get("status")
	if status == nil {
		return whole
	}
	o = o.set("status", status)
	if entries := statusManagers(p.get("metadata")); entries != nil {
		o = o.setStatusManagers(entries)
	}
	return o.bytes()
}

// statusManagers picks the managedFields entries that belong to the status; nil where there are none.
func statusManagers(meta json.RawMessage) []json.RawMessage {
	if !bytes.Contains(meta, []byte(`"subresource"`)) {
		return nil
	}
	all, ok := parseArray(Member(meta, "managedFields"))
	if !ok {
		return nil
	}
	var own []json.RawMessage
	for _, entry := range all {
		if isStatusManager(entry) {
			own = append(own, entry)
		}
	}
	return own
}

func isStatusManager(entry json.RawMessage) bool {
	var subresource string
	return json.Unmarshal(Member(entry, "subresource"), &subresource) == nil && subresource == "status"
}

// setStatusManagers replaces the status's managedFields entries of an object.
func (f fields) setStatusManagers(entries []json.RawMessage) fields {
	_, meta := parse(f.get("metadata"))
	if meta == nil {
		return f
	}
	var kept []json.RawMessage
	if managed := meta.get("managedFields"); managed != nil {
		all, ok := parseArray(managed)
		if !ok {
			return f
		}
		for _, entry := range all {
			if !isStatusManager(entry) {
				kept = append(kept, entry)
			}
		}
	}
	return f.set("metadata", meta.set("managedFields", joinArray(kept, entries)).bytes())
}
