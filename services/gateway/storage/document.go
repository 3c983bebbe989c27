package storage

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"reflect"

	"github.com/orlog-io/orlog/events"
)

// document is an encoded object, taken apart as far as the fold of events needs: the status, with the
// managedFields entries that belong to it, changes apart from the rest.
type document struct {
	fields map[string]json.RawMessage
	meta   map[string]json.RawMessage
	// managers and statusManagers are metadata.managedFields, split by whether their subresource is status.
	managers, statusManagers []json.RawMessage
}

func parseDocument(data []byte) (d document, err error) {
	if len(data) == 0 {
		return d, nil
	}
	if d.fields, err = events.Members(data); err != nil {
		return d, fmt.Errorf("object: %w", err)
	}
	if raw, ok := d.fields["metadata"]; ok {
		if d.meta, err = events.Members(raw); err != nil {
			return d, fmt.Errorf("object: metadata: %w", err)
		}
	}
	raw, ok := d.meta["managedFields"]
	if !ok {
		return d, nil
	}
	all, err := events.Elements(raw)
	if err != nil {
		return d, fmt.Errorf("object: metadata.managedFields: %w", err)
	}
	for _, entry := range all {
		if string(events.Member(entry, "subresource")) == `"status"` {
			d.statusManagers = append(d.statusManagers, entry)
		} else {
			d.managers = append(d.managers, entry)
		}
	}
	return d, nil
}

// text reads a string at a path; "" where there is none.
func (d document) text(field string, path ...string) string {
	raw := d.fields[field]
	for _, p := range path {
		raw = events.Member(raw, p)
	}
	var s string
	if json.Unmarshal(raw, &s) != nil {
		return ""
	}
	return s
}

// uid is metadata.uid, or something as lasting where the object has none that an event can carry: then every
// life of the key shares it, so that a report still finds the object it is about.
func (d document) uid(k events.Key) string {
	var uid string
	if json.Unmarshal(d.meta["uid"], &uid) == nil && printable(uid) {
		return uid
	}
	sum := sha256.Sum256([]byte(k.String()))
	return "key-" + hex.EncodeToString(sum[:16])
}

func printable(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return s != ""
}

// difference says which parts differ between two documents.
type difference struct {
	rest, status bool
	// orphaned: the status lost all its managedFields entries, which only a whole object can express.
	orphaned bool
}

func compare(was, is document) difference {
	var d difference
	d.status = !same(status(was), status(is)) || !sameEntries(was.statusManagers, is.statusManagers)
	d.orphaned = len(was.statusManagers) > 0 && len(is.statusManagers) == 0
	d.rest = !sameFields(was.fields, is.fields, "status", "metadata") || !sameFields(was.meta, is.meta, "managedFields") ||
		!sameEntries(was.managers, is.managers)
	return d
}

// status is the document's status; nil where it has none, or null.
func status(d document) json.RawMessage {
	if raw := d.fields["status"]; !bytes.Equal(raw, []byte("null")) {
		return raw
	}
	return nil
}

func sameFields(a, b map[string]json.RawMessage, except ...string) bool {
	skip := func(name string) bool {
		for _, e := range except {
			if e == name {
				return true
			}
		}
		return false
	}
	for name, value := range a {
		if other, ok := b[name]; !skip(name) && (!ok || !same(value, other)) {
			return false
		}
	}
	for name := range b {
		if _, ok := a[name]; !ok && !skip(name) {
			return false
		}
	}
	return true
}

func sameEntries(a, b []json.RawMessage) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !same(a[i], b[i]) {
			return false
		}
	}
	return true
}

// same compares JSON by meaning, as a fold re-orders fields; absent is equal to absent only.
func same(a, b json.RawMessage) bool {
	if bytes.Equal(a, b) {
		return true
	}
	if len(a) == 0 || len(b) == 0 {
		return false
	}
	var x, y any
	for raw, to := range map[*json.RawMessage]*any{&a: &x, &b: &y} {
		dec := json.NewDecoder(bytes.NewReader(*raw))
		dec.UseNumber()
		if dec.Decode(to) != nil {
			return false
		}
	}
	return reflect.DeepEqual(x, y)
}

// report is the object of an observed event: uid, status and the status's managedFields.
func (d document) report(uid string) json.RawMessage {
	meta := map[string]any{"uid": uid}
	if len(d.statusManagers) > 0 {
		meta["managedFields"] = d.statusManagers
	}
	return encode(map[string]any{"metadata": meta, "status": orNull(status(d))})
}

// intent is the object of a desired event: everything but the status or, withStatus, everything, a missing
// status being said aloud.
func (d document) intent(withStatus bool) json.RawMessage {
	out := make(map[string]any, len(d.fields)+1)
	for name, value := range d.fields {
		out[name] = value
	}
	delete(out, "status")
	if withStatus {
		out["status"] = orNull(status(d))
	}
	return encode(out)
}

// whole is everything, a missing status being left out.
func (d document) whole() json.RawMessage { return encode(d.fields) }

// part is the document with the status alone, or with everything but it: what two states are diffed by.
func (d document) part(statusOnly bool) json.RawMessage {
	if !statusOnly {
		return d.intent(false)
	}
	out := map[string]any{}
	if raw := status(d); raw != nil {
		out["status"] = raw
	}
	return encode(out)
}

func orNull(raw json.RawMessage) json.RawMessage {
	if raw == nil {
		return json.RawMessage("null")
	}
	return raw
}

func encode(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		panic("storage: marshalling parsed JSON: " + err.Error()) // every part came out of a parse
	}
	return b
}
