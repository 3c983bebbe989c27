package change

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// Change is one field as an event tells it: Path is an RFC 6901 pointer, From absent where the field was
// added, To where it was removed.
type Change struct {
	Path string          `json:"path"`
	From json.RawMessage `json:"from,omitempty"`
	To   json.RawMessage `json:"to,omitempty"`
}

// Options say how Fields reads changes.
type Options struct {
	// After is the object right after the changes, decoded by Decode; nil where it is not known.
	After map[string]any
	// Secret: the object is a Secret, whose values stay hidden.
	Secret bool
}

// Decode reads an object so that its numbers keep their spelling.
func Decode(object []byte) (map[string]any, error) {
	d := json.NewDecoder(bytes.NewReader(object))
	d.UseNumber()
	var m map[string]any
	if err := d.Decode(&m); err != nil {
		return nil, fmt.Errorf("object: %w", err)
	}
	return m, nil
}

// Fields turns an event's changes into fields. An object that does not fit the changes is not used.
func Fields(changes []Change, o Options) ([]Field, error) {
	steps := make([]step, 0, len(changes))
	for _, c := range changes {
		s := step{tokens: parsePointer(c.Path), added: c.From == nil, removed: c.To == nil}
		for _, v := range []struct {
			raw json.RawMessage
			to  *any
		}{{c.From, &s.from}, {c.To, &s.to}} {
			if v.raw == nil {
				continue
			}
			d := json.NewDecoder(bytes.NewReader(v.raw))
			d.UseNumber()
			if err := d.Decode(v.to); err != nil {
				return nil, fmt.Errorf("change of %s: %w", c.Path, err)
			}
		}
		steps = append(steps, s)
	}
	var out []Field
	if before, ok := undo(o.After, steps); ok {
		compare(&out, nil, before, o.After)
	} else {
		for _, s := range steps {
			out = append(out, s.fields()...)
		}
	}
	if o.Secret {
		for i := range out {
			top := out[i].path[0]
			out[i].Hidden = top == "data" || top == "stringData" || out[i].Bookkeeping()
		}
	}
	return out, nil
}

// Between compares two objects as a whole.
func Between(before, after map[string]any) []Field {
	var out []Field
	compare(&out, nil, before, after)
	return out
}

// step is a change, decoded.
type step struct {
	tokens         []string
	from, to       any
	added, removed bool
}

// fields are those of one change by itself: what was replaced as a whole is compared inside.
func (s step) fields() []Field {
	p := plainPath(s.tokens)
	var out []Field
	if s.added || s.removed {
		appear(&out, p, s.from, s.to, s.added)
		return out
	}
	compare(&out, p, s.from, s.to)
	return out
}

// undo takes the changes back from the object after them. false: they do not fit.
func undo(after map[string]any, steps []step) (map[string]any, bool) {
	if after == nil || len(steps) == 0 {
		return nil, false
	}
	before := clone(after)
	for _, s := range slices.Backward(steps) {
		if len(s.tokens) == 0 {
			return nil, false
		}
		if now, found := lookup(before, s.tokens); found == s.removed || !s.removed && !reflect.DeepEqual(now, s.to) {
			return nil, false
		}
		if !replace(before, s) {
			return nil, false
		}
	}
	return before.(map[string]any), true
}

func clone(v any) any {
	switch x := v.(type) {
	case map[string]any:
		m := make(map[string]any, len(x))
		for k, e := range x {
			m[k] = clone(e)
		}
		return m
	case []any:
		l := make([]any, len(x))
		for i, e := range x {
			l[i] = clone(e)
		}
		return l
	}
	return v
}

func lookup(v any, tokens []string) (any, bool) {
	for _, t := range tokens {
		switch x := v.(type) {
		case map[string]any:
			e, ok := x[t]
			if !ok {
				return nil, false
			}
			v = e
		case []any:
			i, err := strconv.Atoi(t)
			if err != nil || i < 0 || i >= len(x) {
				return nil, false
			}
			v = x[i]
		default:
			return nil, false
		}
	}
	return v, true
}

// replace puts a step's old value back into its place.
func replace(v any, s step) bool {
	parent, ok := lookup(v, s.tokens[:len(s.tokens)-1])
	if !ok {
		return false
	}
	last := s.tokens[len(s.tokens)-1]
	switch x := parent.(type) {
	case map[string]any:
		if s.added {
			delete(x, last)
		} else {
			x[last] = clone(s.from)
		}
		return true
	case []any:
		i, err := strconv.Atoi(last)
		if err != nil || i < 0 || i >= len(x) || s.added || s.removed {
			return false
		}
		x[i] = clone(s.from)
		return true
	}
	return false
}

// compare adds the fields that differ between two values at one place.
func compare(out *[]Field, p path, a, b any) {
	switch x := a.(type) {
	case map[string]any:
		if y, ok := b.(map[string]any); ok {
			if joined(out, p, x, y) {
				return
			}
			compareMaps(out, p, x, y)
			return
		}
	case []any:
		if y, ok := b.([]any); ok && compareLists(out, p, x, y) {
			return
		}
	}
	if !reflect.DeepEqual(a, b) {
		*out = append(*out, Field{path: p, From: a, To: b})
	}
}

func compareMaps(out *[]Field, p path, a, b map[string]any) {
	keys := slices.Collect(maps.Keys(a))
	for k := range b {
		if _, both := a[k]; !both {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	for _, k := range keys {
		was, had := a[k]
		is, has := b[k]
		if had && has {
			compare(out, p.key(k), was, is)
		} else {
			appear(out, p.key(k), was, is, has)
		}
	}
}

// appear adds a field that came (has) or went. What has names inside and stands in a status comes in its parts.
func appear(out *[]Field, p path, was, is any, has bool) {
	if parts := p.last(); len(p) == 2 && p[0] == "status" && (parts == "conditions" || strings.HasSuffix(parts, "ontainerStatuses")) {
		before, isList := was.([]any)
		after, areLists := is.([]any)
		if (isList || areLists) && identity(before, after) != "" && compareLists(out, p, before, after) {
			return
		}
	}
	f := Field{path: p, From: was, To: is, Added: has, Removed: !has}
	if t := joinedText(p, was); t != "" {
		f.From = t
	}
	if t := joinedText(p, is); t != "" {
		f.To = t
	}
	*out = append(*out, f)
}
