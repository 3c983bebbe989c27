package change

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// Path names a field: segments are map keys, or list elements in brackets.
type path []string

// key is the path of a map's entry. A key that holds what separates segments goes into brackets.
func (p path) key(k string) path {
	if strings.ContainsAny(k, "./[]") {
		return p.element(k)
	}
	return append(p[:len(p):len(p)], k)
}

func (p path) element(id string) path {
	return append(p[:len(p):len(p)], "["+id+"]")
}

func (p path) last() string {
	if len(p) == 0 {
		return ""
	}
	return p[len(p)-1]
}

// String joins the segments: spec.containers[web].image.
func (p path) String() string {
	var b strings.Builder
	for i, s := range p {
		if i > 0 && !strings.HasPrefix(s, "[") {
			b.WriteByte('.')
		}
		b.WriteString(s)
	}
	return b.String()
}

// parsePointer splits an RFC 6901 pointer into its unescaped tokens.
func parsePointer(pointer string) []string {
	if pointer == "" {
		return nil
	}
	tokens := strings.Split(strings.TrimPrefix(pointer, "/"), "/")
	for i, t := range tokens {
		tokens[i] = strings.NewReplacer("~1", "/", "~0", "~").Replace(t)
	}
	return tokens
}

// plainPath is the path of a pointer where nothing is known of the object: a number is taken for an index.
func plainPath(tokens []string) path {
	var p path
	for i, t := range tokens {
		// Entries of data, labels and annotations may be called "0"; elements are never directly below those.
		_, err := strconv.ParseUint(t, 10, 31)
		if err == nil && i > 0 && !freeKeys[tokens[i-1]] {
			p = p.element(t)
		} else {
			p = p.key(t)
		}
	}
	return p
}

// freeKeys are maps whose keys users choose.
var freeKeys = map[string]bool{"labels": true, "annotations": true, "data": true, "binaryData": true, "stringData": true,
	"matchLabels": true, "selector": true, "nodeSelector": true}

// HasIndex reports whether a pointer leads through a list, so that naming its elements needs the object.
func HasIndex(pointer string) bool {
	for _, s := range plainPath(parsePointer(pointer)) {
		if indexPattern.MatchString(s) {
			return true
		}
	}
	return false
}

var indexPattern = regexp.MustCompile(`^\[\d+\]$`)

// Filter selects fields by the beginning of their path.
type Filter struct{ segments []string }

// ParseFilter reads what a person types for a field: spec.replicas, /spec/replicas,
// spec.template.spec.containers[web].image; [] or [*] stands for any element.
func ParseFilter(text string) (Filter, error) {
	var f Filter
	rest := strings.TrimPrefix(strings.TrimSpace(text), ".")
	if strings.HasPrefix(rest, "/") {
		for _, s := range plainPath(parsePointer(rest)) {
			f.segments = append(f.segments, s)
		}
		return f, nil
	}
	for rest != "" {
		end := strings.IndexAny(rest, ".[")
		switch {
		case end < 0:
			f.segments, rest = append(f.segments, rest), ""
		case end > 0:
			f.segments, rest = append(f.segments, rest[:end]), strings.TrimPrefix(rest[end:], ".")
		case rest[0] == '.':
			return f, fmt.Errorf("field %q: two dots in a row", text)
		default:
			closing := strings.IndexByte(rest, ']')
			if closing < 0 {
				return f, fmt.Errorf("field %q: a bracket is not closed", text)
			}
			f.segments, rest = append(f.segments, rest[:closing+1]), strings.TrimPrefix(rest[closing+1:], ".")
		}
	}
	if len(f.segments) == 0 {
		return f, fmt.Errorf("field %q: want a path such as spec.replicas", text)
	}
	return f, nil
}

// Under reports whether everything that the filter selects lies below a top-level field such as status.
func (f Filter) Under(top string) bool { return len(f.segments) > 0 && f.segments[0] == top }

// Match reports whether a field is at or below the filter's path, or holds it.
func (f Filter) Match(field Field) bool {
	for i, want := range f.segments {
		if i >= len(field.path) {
			return true // the field as a whole, which holds what was asked for, came or went
		}
		got := field.path[i]
		if want != got && (want != "[]" && want != "[*]" || !strings.HasPrefix(got, "[")) {
			return false
		}
	}
	return true
}

// Find is what the filter names in an object as it is, as a field that came with it.
func (f Filter) Find(object map[string]any) (Field, bool) {
	var v any = object
	for _, s := range f.segments {
		id, element := strings.CutPrefix(s, "[")
		id = strings.TrimSuffix(id, "]")
		switch x := v.(type) {
		case map[string]any:
			e, ok := x[id]
			if !ok {
				return Field{}, false
			}
			v = e
		case []any:
			e, ok := find(x, id)
			if !ok || !element {
				return Field{}, false
			}
			v = e
		default:
			return Field{}, false
		}
	}
	return Field{path: f.segments, To: v, Added: true}, true
}
