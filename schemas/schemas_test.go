package schemas_test

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/orlog-io/orlog/schemas"
)

// TestAsyncAPI: the document parses, its references lead somewhere, and each channel's address names its
// parameters.
func TestAsyncAPI(t *testing.T) {
	var doc map[string]any
	if err := yaml.UnmarshalStrict(schemas.AsyncAPI(), &doc); err != nil {
		t.Fatal(err)
	}
	if doc["asyncapi"] != "3.0.0" {
		t.Errorf("asyncapi: %v", doc["asyncapi"])
	}
	checkRefs(t, doc, doc)
	for name, c := range doc["channels"].(map[string]any) {
		channel := c.(map[string]any)
		in := regexp.MustCompile(`\{(\w+)\}`).FindAllStringSubmatch(channel["address"].(string), -1)
		parameters := channel["parameters"].(map[string]any)
		for _, m := range in {
			if parameters[m[1]] == nil {
				t.Errorf("channel %s: parameter %s is not described", name, m[1])
			}
		}
		if len(in) != len(parameters) {
			t.Errorf("channel %s: %d parameters in the address, %d described", name, len(in), len(parameters))
		}
	}
}

func checkRefs(t *testing.T, doc map[string]any, at any) {
	t.Helper()
	switch x := at.(type) {
	case []any:
		for _, v := range x {
			checkRefs(t, doc, v)
		}
	case map[string]any:
		for k, v := range x {
			ref, isRef := v.(string)
			if k != "$ref" || !isRef {
				checkRefs(t, doc, v)
				continue
			}
			var to any = doc
			for _, p := range strings.Split(strings.TrimPrefix(ref, "#/"), "/") {
				m, _ := to.(map[string]any)
				to = m[p]
			}
			if to == nil {
				t.Errorf("%s leads nowhere", ref)
			}
		}
	}
}

func TestEventSchemaIsItself(t *testing.T) {
	var doc struct {
		ID     string `json:"$id"`
		Schema string `json:"$schema"`
	}
	if err := json.Unmarshal(schemas.Event(), &doc); err != nil {
		t.Fatal(err)
	}
	if doc.ID != schemas.EventID || doc.Schema != "https://json-schema.org/draft/2020-12/schema" {
		t.Errorf("got %+v", doc)
	}
}

// TestAsyncAPISaysWhoMay: every operation is on a channel, and says who may do it.
func TestAsyncAPISaysWhoMay(t *testing.T) {
	var doc struct {
		Channels   map[string]any
		Operations map[string]struct {
			Action   string
			Channel  map[string]string
			Security []map[string]string
		}
		Components struct{ SecuritySchemes map[string]any }
	}
	if err := yaml.Unmarshal(schemas.AsyncAPI(), &doc); err != nil {
		t.Fatal(err)
	}
	done := map[string]bool{}
	used := map[string]bool{}
	for name, o := range doc.Operations {
		if o.Action != "send" && o.Action != "receive" || len(o.Security) == 0 {
			t.Errorf("operation %s: action %q, security %v", name, o.Action, o.Security)
		}
		done[o.Channel["$ref"]+" "+o.Action] = true
		for _, s := range o.Security {
			used[s["$ref"]] = true
		}
	}
	for name := range doc.Channels {
		if !done["#/channels/"+name+" receive"] || name != "live" && !done["#/channels/"+name+" send"] {
			t.Errorf("channel %s: nothing says how it is read or written", name)
		}
	}
	for name := range doc.Components.SecuritySchemes {
		if !used["#/components/securitySchemes/"+name] {
			t.Errorf("security scheme %s is used by no operation", name)
		}
	}
}
