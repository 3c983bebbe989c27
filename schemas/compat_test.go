package schemas_test

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/orlog-io/orlog/schemas"
)

// breaking lists what would break between two versions of one schema: for events that were written by the old
// one, which stand on logs for ever, and for readers that were written for it. Words may change. A property
// may be added where the old schema lets unknown ones be, if it need not be there. Nothing else.
func breaking(was, is any, at string) []string {
	old, isObject := was.(map[string]any)
	now, still := is.(map[string]any)
	if !isObject || !still {
		if !reflect.DeepEqual(was, is) {
			return []string{fmt.Sprintf("%s: was %v, is %v", at, was, is)}
		}
		return nil
	}
	var found []string
	for _, keyword := range slices.Sorted(maps.Keys(union(old, now))) {
		where := at + "/" + keyword
		before, had := old[keyword]
		after, has := now[keyword]
		switch {
		case keyword == "title" || keyword == "description" || keyword == "$comment" || keyword == "examples":
		case keyword == "properties" && had && has:
			found = append(found, properties(before, after, old["additionalProperties"] == false, where)...)
		case keyword == "required" && had && has:
			if !sameSet(before, after) {
				found = append(found, fmt.Sprintf("%s: was %v, is %v", where, before, after))
			}
		case !has:
			found = append(found, where+": was taken away")
		case !had:
			found = append(found, where+": was added")
		default:
			found = append(found, breaking(before, after, where)...)
		}
	}
	return found
}

// properties compares the values of the keyword properties, which are names, not keywords.
func properties(was, is any, closed bool, at string) (found []string) {
	old, now := was.(map[string]any), is.(map[string]any)
	for _, name := range slices.Sorted(maps.Keys(union(old, now))) {
		where := at + "/" + name
		before, had := old[name]
		after, has := now[name]
		switch {
		case !has:
			found = append(found, where+": was removed or renamed")
		case !had && closed:
			found = append(found, where+": was added, and readers refuse what they do not know there")
		case had:
			found = append(found, breaking(before, after, where)...)
		}
	}
	return found
}

func union(a, b map[string]any) map[string]any {
	all := maps.Clone(a)
	maps.Copy(all, b)
	return all
}

func sameSet(a, b any) bool {
	sorted := func(x any) []string {
		var out []string
		for _, v := range x.([]any) {
			out = append(out, fmt.Sprint(v))
		}
		slices.Sort(out)
		return out
	}
	return slices.Equal(sorted(a), sorted(b))
}

func document(t *testing.T, b []byte) map[string]any {
	t.Helper()
	var doc map[string]any
	if err := json.Unmarshal(b, &doc); err != nil {
		t.Fatal(err)
	}
	return doc
}

func released(t *testing.T) map[string]any {
	t.Helper()
	b, err := fs.ReadFile(schemas.Released(), "event-v1.json")
	if err != nil {
		t.Fatal(err)
	}
	return document(t, b)
}

// TestSchemaBreaksNobody compares the schema with the one that was released.
func TestSchemaBreaksNobody(t *testing.T) {
	for _, what := range breaking(released(t), document(t, schemas.Event()), "") {
		t.Errorf("event/v1.json would break readers or written events: %s: make a version 2 beside it instead", what)
	}
}

// TestBreakingChanges tests the test: what breaks is found, what does not is not.
func TestBreakingChanges(t *testing.T) {
	walk := func(doc map[string]any, path string) map[string]any {
		for _, name := range strings.Split(path, "/") {
			doc = doc[name].(map[string]any)
		}
		return doc
	}
	for name, change := range map[string]func(map[string]any){
		"a field is removed":             func(d map[string]any) { delete(walk(d, "properties"), "onbehalfof") },
		"a field is renamed":             func(d map[string]any) { p := walk(d, "properties"); p["who"] = p["actor"]; delete(p, "actor") },
		"a field gets another type":      func(d map[string]any) { walk(d, "properties/reason")["type"] = "object" },
		"a field's pattern is narrower":  func(d map[string]any) { walk(d, "properties/source")["pattern"] = "^/orlog/gateway$" },
		"a sequence becomes a number":    func(d map[string]any) { walk(d, "$defs/sequence")["type"] = "integer" },
		"a field becomes required":       func(d map[string]any) { d["required"] = append(d["required"].([]any), "reason") },
		"a field is no longer written":   func(d map[string]any) { d["required"] = d["required"].([]any)[1:] },
		"unknown fields are refused":     func(d map[string]any) { d["additionalProperties"] = false },
		"the payload gets a field":       func(d map[string]any) { walk(d, "properties/data/properties")["more"] = true },
		"the payload's object may be ''": func(d map[string]any) { delete(walk(d, "properties/data"), "required") },
		"changes get another operation": func(d map[string]any) {
			op := walk(d, "$defs/change/properties/op")
			op["enum"] = append(op["enum"].([]any), "move")
		},
		"reports need no status":  func(d map[string]any) { delete(d, "allOf") },
		"the version changes":     func(d map[string]any) { walk(d, "properties/specversion")["const"] = "1.1" },
		"the schema has a new id": func(d map[string]any) { d["$id"] = "https://orlog.io/schemas/event/v1.1.json" },
	} {
		changed := document(t, schemas.Event())
		change(changed)
		if breaking(released(t), changed, "") == nil {
			t.Errorf("%s: not refused", name)
		}
	}
	for name, change := range map[string]func(map[string]any){
		"other words":       func(d map[string]any) { walk(d, "properties/actor")["description"] = "Who did it." },
		"a new extension":   func(d map[string]any) { walk(d, "properties")["signature"] = map[string]any{"type": "string"} },
		"the order changes": func(d map[string]any) { slices.Reverse(d["required"].([]any)) },
	} {
		changed := document(t, schemas.Event())
		change(changed)
		if found := breaking(released(t), changed, ""); found != nil {
			t.Errorf("%s: refused: %v", name, found)
		}
	}
}

// TestReleasedExamplesStay: an example is a promise too.
func TestReleasedExamplesStay(t *testing.T) {
	names, err := fs.Glob(schemas.Released(), "examples/*.json")
	if err != nil || len(names) < 11 {
		t.Fatalf("%v, %v", names, err)
	}
	for _, name := range names {
		was, err := fs.ReadFile(schemas.Released(), name)
		if err != nil {
			t.Fatal(err)
		}
		is, err := fs.ReadFile(schemas.Examples(), strings.TrimPrefix(name, "examples/"))
		if err != nil {
			t.Error(err)
		} else if !reflect.DeepEqual(document(t, was), document(t, is)) {
			t.Errorf("%s is not what was released: add another example instead", name)
		}
	}
}
