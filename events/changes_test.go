package events

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"reflect"
	"testing"

	jsonpatch "github.com/evanphx/json-patch/v5"
)

// TestDiffApplies: the patch, test operations included, turns the old object into the new one.
func TestDiffApplies(t *testing.T) {
	for seed := range uint64(3000) {
		r := rand.New(rand.NewPCG(seed, 1))
		was := randomObject(r, 3)
		is := mutate(r, was).(map[string]any)
		checkDiff(t, seed, was, is)
	}
}

func checkDiff(t *testing.T, seed uint64, was, is map[string]any) {
	t.Helper()
	a, b := mustJSON(was), mustJSON(is)
	changes, err := Diff(a, b)
	if err != nil {
		t.Fatalf("seed %d: %v", seed, err)
	}
	if again, err := Diff(a, b); err != nil || !reflect.DeepEqual(changes, again) {
		t.Fatalf("seed %d: two patches for the same objects", seed)
	}
	encoded := EncodeChanges(changes)
	back, err := DecodeChanges(encoded)
	if err != nil || len(back) != len(changes) {
		t.Fatalf("seed %d: decode: %d changes of %d, %v", seed, len(back), len(changes), err)
	}
	if len(changes) == 0 {
		if !bytes.Equal(a, b) {
			t.Fatalf("seed %d: no changes between\n%s\n%s", seed, a, b)
		}
		return
	}
	patch, err := jsonpatch.DecodePatch(encoded)
	if err != nil {
		t.Fatalf("seed %d: %v", seed, err)
	}
	got, err := patch.Apply(a)
	if err != nil {
		t.Fatalf("seed %d: %v\nwas   %s\nis    %s\npatch %s", seed, err, a, b, encoded)
	}
	if !jsonpatch.Equal(got, b) {
		t.Fatalf("seed %d: the patch gives\n%s\nwant\n%s\npatch %s", seed, got, b, encoded)
	}
	// Every old value that is replaced or removed is on record.
	for i, c := range changes {
		if (c.Op == "replace" || c.Op == "remove") && (i == 0 || changes[i-1].Op != "test" || changes[i-1].Path != c.Path) {
			t.Fatalf("seed %d: %s %s is not guarded by a test", seed, c.Op, c.Path)
		}
	}
}

// The empty key is left out: json-patch does not know that "/" names it.
var names = []string{"a", "b", "a/b", "m~n", "x.y", "\u00e9", "<&>"}

func randomObject(r *rand.Rand, depth int) map[string]any {
	o := map[string]any{}
	for range r.IntN(5) {
		o[names[r.IntN(len(names))]] = randomValue(r, depth-1)
	}
	return o
}

func randomValue(r *rand.Rand, depth int) any {
	switch n := r.IntN(8); {
	case n == 0 && depth > 0:
		return randomObject(r, depth)
	case n == 1 && depth > 0:
		list := []any{}
		for range r.IntN(4) {
			if v := randomValue(r, depth-1); v != nil { // json-patch panics when it tests an array that holds null
				list = append(list, v)
			}
		}
		return list
	case n == 2:
		return nil
	case n == 3:
		return r.IntN(2) == 0
	case n == 4:
		return json.Number("9007199254740993") // does not survive a float64
	case n == 5:
		return json.Number("1.50")
	default:
		return names[r.IntN(len(names))]
	}
}

// mutate copies a value with a few changes.
func mutate(r *rand.Rand, v any) any {
	switch x := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for _, k := range names {
			if old, ok := x[k]; ok && r.IntN(6) > 0 {
				out[k] = mutate(r, old)
			}
		}
		if r.IntN(3) == 0 {
			out[names[r.IntN(len(names))]] = randomValue(r, 2)
		}
		return out
	case []any:
		out := []any{}
		for _, e := range x {
			if v := mutate(r, e); v != nil {
				out = append(out, v)
			}
		}
		if v := randomValue(r, 1); v != nil && r.IntN(4) == 0 {
			out = append(out, v)
		}
		return out
	}
	if r.IntN(4) == 0 {
		return randomValue(r, 2)
	}
	return v
}

func mustJSON(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

func TestDiffLeavesBookkeepingOut(t *testing.T) {
	changes, err := Diff(
		json.RawMessage(`{"metadata":{"name":"a","generation":1,"resourceVersion":"1","managedFields":[1]},"spec":{"replicas":1}}`),
		json.RawMessage(`{"metadata":{"name":"a","generation":2,"managedFields":[2]},"spec":{"replicas":3}}`))
	want := `[{"op":"test","path":"/spec/replicas","value":1},{"op":"replace","path":"/spec/replicas","value":3}]`
	if err != nil || string(EncodeChanges(changes)) != want {
		t.Errorf("got %s, %v; want %s", EncodeChanges(changes), err, want)
	}
	if changes, err := Diff(nil, json.RawMessage(`{}`)); changes != nil || err != nil {
		t.Errorf("creation: %v %v", changes, err)
	}
}
