//go:build system

package systemtest

import (
	"bytes"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/orlog-io/orlog/schemas"
)

// Every event that the cluster has written so far, by whatever part of Orlog, is what the published schema says.
func TestEveryEventMatchesTheSchema(t *testing.T) {
	demo(t)
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(schemas.Event()))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource(schemas.EventID, doc); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile(schemas.EventID)
	if err != nil {
		t.Fatal(err)
	}
	types := map[string]bool{}
	for line := range strings.Lines(must(t, "orlog", "tail", "--from", "1", "--follow=false", "-o", "json")) {
		event, err := jsonschema.UnmarshalJSON(strings.NewReader(line))
		if err != nil {
			t.Fatalf("no JSON: %v\n%s", err, line)
		}
		if err := schema.Validate(event); err != nil {
			t.Errorf("%v\n%.2000s", err, line)
		}
		types[event.(map[string]any)["type"].(string)] = true
	}
	for _, want := range []string{"deployment.created", "replicaset.created", "pod.created", "pod.bound", "pod.started", "service.created", "node.created"} {
		if !types["io.orlog."+want] {
			t.Errorf("no %s among the types seen: %v", want, types)
		}
	}
}
