package events_test

import (
	"bytes"
	"io/fs"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/schemas"
)

// TestReleasedReaders: events that were written under the released contract are still read, and say the same;
// what is written today, a reader of the released contract takes.
func TestReleasedReaders(t *testing.T) {
	b, err := fs.ReadFile(schemas.Released(), "event-v1.json")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource(schemas.EventID, doc); err != nil {
		t.Fatal(err)
	}
	then, err := c.Compile(schemas.EventID)
	if err != nil {
		t.Fatal(err)
	}
	now := schema(t)
	names, err := fs.Glob(schemas.Released(), "examples/*.json")
	if err != nil || len(names) == 0 {
		t.Fatal(names, err)
	}
	for _, name := range names {
		old, err := fs.ReadFile(schemas.Released(), name)
		if err != nil {
			t.Fatal(err)
		}
		if err := validate(now, old); err != nil {
			t.Errorf("%s was written under the released schema, and the present one refuses it: %v", name, err)
		}
		e, err := events.ParseStructured(old)
		if err != nil {
			t.Fatal(err)
		}
		w, err := events.Encode(e)
		if err != nil {
			t.Fatal(err)
		}
		written, err := events.Structured(events.Read(w, e.Sequence, e.Time))
		if err != nil {
			t.Fatal(err)
		}
		if !sameJSON(t, old, written) {
			t.Errorf("%s is written today as\n%s", name, written)
		}
	}
	least := events.Event{Sequence: 1, ID: "i", Subject: events.Subject{Class: events.Desired, Key: events.Key{Resource: "nodes", Name: "n"}},
		Type: "io.orlog.node.created", Source: "gateway", Actor: "a", UID: "u", Time: time.Unix(1, 0), Object: []byte(`{}`)}
	most := least
	most.OnBehalfOf, most.Cause, most.Correlation, most.Reason, most.Subject.Key.Group = "b", 2, 1, "because", "apps"
	most.TraceParent, most.Changes = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", []byte(`[{"op":"test","path":"/a","value":1},{"op":"remove","path":"/a"}]`)
	rejected := events.Read(events.Wire{Subject: "orlog.observed.core.pods.default.web.n1", Data: []byte("x")}, 7, time.Unix(1, 0))
	for name, e := range map[string]events.Event{"least": least, "most": most, "rejected": rejected} {
		written, err := events.Structured(e)
		if err != nil {
			t.Fatal(err)
		}
		if err := validate(then, written); err != nil {
			t.Errorf("%s: a reader of the released schema refuses what is written today: %v\n%s", name, err, written)
		}
	}
}
