package events

import (
	"bytes"
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// Change is one operation of an RFC 6902 patch.
type Change struct {
	// Op is add, remove, replace or test.
	Op    string          `json:"op"`
	Path  string          `json:"path"`
	Value json.RawMessage `json:"value,omitempty"`
}

// Diff describes how one JSON object became another: an RFC 6902 patch whose test operations, each just
// before the operation that it guards, hold the old values. Object keys come in sorted order, so equal
// inputs give equal patches. Arrays of equal length are compared element by element; otherwise the array is
// replaced as a whole. Bookkeeping that every write moves (metadata.managedFields, resourceVersion,
// generation) is left out. was may be nil: then the patch is nil, as creation needs no comparison.
func Diff(was, is json.RawMessage) ([]Change, error) {
	if len(was) == 0 {
		return nil, nil
	}
	var a, b map[string]any
	if err := decodeNumber(was, &a); err != nil {
		return nil, invalidf("old object: %v", err)
	}
	if err := decodeNumber(is, &b); err != nil {
		return nil, invalidf("new object: %v", err)
	}
	for _, o := range []map[string]any{a, b} {
		if meta, ok := o["metadata"].(map[string]any); ok {
			for _, f := range []string{"managedFields", "resourceVersion", "generation"} {
				delete(meta, f)
			}
		}
	}
	var out []Change
	diff(&out, "", a, b)
	return out, nil
}

// EncodeChanges makes Event.Changes; nil for no changes.
func EncodeChanges(c []Change) json.RawMessage {
	if len(c) == 0 {
		return nil
	}
	b, err := json.Marshal(c)
	if err != nil {
		panic("events: marshalling changes: " + err.Error()) // values came out of json.Marshal
	}
	return b
}

// DecodeChanges reads Event.Changes.
func DecodeChanges(b json.RawMessage) ([]Change, error) {
	if len(b) == 0 {
		return nil, nil
	}
	var c []Change
	if err := json.Unmarshal(b, &c); err != nil {
		return nil, invalidf("changes: %v", err)
	}
	return c, nil
}

func decodeNumber(b []byte, to any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber() // numbers keep their spelling: no float rounding of large integers
	return d.Decode(to)
}

func diff(out *[]Change, path string, a, b any) {
	switch x := a.(type) {
	case map[string]any:
		if y, ok := b.(map[string]any); ok {
			diffMaps(out, path, x, y)
			return
		}
	case []any:
		if y, ok := b.([]any); ok && len(x) == len(y) {
			for i := range x {
				diff(out, path+"/"+strconv.Itoa(i), x[i], y[i])
			}
			return
		}
	}
	if !reflect.DeepEqual(a, b) {
		*out = append(*out, Change{"test", path, raw(a)}, Change{"replace", path, raw(b)})
	}
}

func diffMaps(out *[]Change, path string, a, b map[string]any) {
	keys := slices.Collect(maps.Keys(a))
	for k := range b {
		if _, both := a[k]; !both {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	for _, k := range keys {
		at := path + "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(k)
		was, had := a[k]
		is, has := b[k]
		switch {
		case !had:
			*out = append(*out, Change{"add", at, raw(is)})
		case !has:
			*out = append(*out, Change{"test", at, raw(was)}, Change{"remove", at, nil})
		default:
			diff(out, at, was, is)
		}
	}
}

func raw(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		panic("events: marshalling parsed JSON: " + err.Error())
	}
	return b
}
