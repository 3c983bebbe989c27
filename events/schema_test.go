package events_test

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"sigs.k8s.io/yaml"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/schemas"
)

// schema is the published schema of an event.
func schema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(schemas.Event()))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource(schemas.EventID, doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile(schemas.EventID)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func validate(s *jsonschema.Schema, b []byte) error {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
	if err != nil {
		return err
	}
	return s.Validate(doc)
}

// TestExamples: the published examples fit the schema, are valid events, survive the wire, and come out of
// Structured as they went in.
func TestExamples(t *testing.T) {
	s := schema(t)
	if events.DataSchema != schemas.EventID {
		t.Errorf("ce-dataschema is %s, the schema's $id %s", events.DataSchema, schemas.EventID)
	}
	files, err := fs.Glob(schemas.Examples(), "*.json")
	if err != nil || len(files) < 8 {
		t.Fatalf("%d examples, %v", len(files), err)
	}
	for _, name := range files {
		t.Run(strings.TrimSuffix(name, ".json"), func(t *testing.T) {
			b, err := fs.ReadFile(schemas.Examples(), name)
			if err != nil {
				t.Fatal(err)
			}
			if err := validate(s, b); err != nil {
				t.Fatal(err)
			}
			e, err := events.ParseStructured(b)
			if err != nil {
				t.Fatal(err)
			}
			if err := e.Validate(); err != nil {
				t.Fatal(err)
			}
			if want := e.Sequence.String() + "-" + e.Kind() + "-" + string(e.Verb()) + ".json"; name != want {
				t.Errorf("the file should be called %s", want)
			}
			w, err := events.Encode(e)
			if err != nil {
				t.Fatal(err)
			}
			back, err := events.Decode(w, e.Sequence, time.Time{})
			if err != nil {
				t.Fatal(err)
			}
			out, err := events.Structured(back)
			if err != nil {
				t.Fatal(err)
			}
			if !sameJSON(t, b, out) {
				t.Errorf("came back as\n%s", out)
			}
		})
	}
}

func sameJSON(t *testing.T, a, b []byte) bool {
	t.Helper()
	var x, y any
	if err := json.Unmarshal(a, &x); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &y); err != nil {
		t.Fatal(err)
	}
	return reflect.DeepEqual(x, y)
}

// TestSchemaRefuses: the schema has teeth.
func TestSchemaRefuses(t *testing.T) {
	s := schema(t)
	example, err := fs.ReadFile(schemas.Examples(), "120-deployment-scaled.json")
	if err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(map[string]any){
		"no actor":              func(e map[string]any) { delete(e, "actor") },
		"not appended":          func(e map[string]any) { e["sequence"] = "0" },
		"bad type":              func(e map[string]any) { e["type"] = "io.orlog.deployment" },
		"bad time":              func(e map[string]any) { e["time"] = "yesterday" },
		"upper case attribute":  func(e map[string]any) { e["onBehalfOf"] = "x" },
		"wildcard subject":      func(e map[string]any) { e["natssubject"] = "orlog.desired.apps.deployments.default.*.-" },
		"report without status": func(e map[string]any) { e["natssubject"] = "orlog.observed.apps.deployments.default.web.-" },
		"no object":             func(e map[string]any) { delete(e["data"].(map[string]any), "object") },
		"change without a value": func(e map[string]any) {
			delete(e["data"].(map[string]any)["changes"].([]any)[0].(map[string]any), "value")
		},
	} {
		var e map[string]any
		if err := json.Unmarshal(example, &e); err != nil {
			t.Fatal(err)
		}
		spoil(e)
		b, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		if validate(s, b) == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// TestAsyncAPIHeaders: the AsyncAPI document describes exactly the headers that an event is encoded to.
func TestAsyncAPIHeaders(t *testing.T) {
	var doc struct {
		Components struct {
			Messages map[string]struct {
				Headers struct {
					Required   []string
					Properties map[string]any
				}
			}
		}
	}
	if err := yaml.Unmarshal(schemas.AsyncAPI(), &doc); err != nil {
		t.Fatal(err)
	}
	described := doc.Components.Messages["event"].Headers
	least := events.Event{ID: "i", Subject: events.Subject{Class: events.Desired, Key: events.Key{Resource: "nodes", Name: "n"}},
		Type: "io.orlog.node.created", Source: "gateway", Actor: "a", UID: "u", Time: time.Unix(1, 0), Object: []byte(`{}`)}
	most := least
	most.OnBehalfOf, most.Cause, most.Correlation, most.Reason, most.TraceParent = "b", 2, 1, "because", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	// What the log's transport adds to an append: see events/jetstream.
	transport := []string{"Nats-Msg-Id", "Nats-Expected-Last-Subject-Sequence", "Nats-Expected-Last-Subject-Sequence-Subject"}
	for name, c := range map[string]struct {
		event     events.Event
		transport []string
		described []string
	}{
		"required": {least, transport[:1], described.Required},
		"all":      {most, transport, slices.Collect(maps.Keys(described.Properties))},
	} {
		w, err := events.Encode(c.event)
		if err != nil {
			t.Fatal(err)
		}
		written := append(slices.Collect(maps.Keys(w.Header)), c.transport...)
		slices.Sort(written)
		slices.Sort(c.described)
		if !slices.Equal(written, c.described) {
			t.Errorf("%s headers: written %v, described %v", name, written, c.described)
		}
	}
}
