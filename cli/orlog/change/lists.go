package change

import (
	"reflect"
	"strconv"
)

// identities are the fields that tell a list's elements apart, tried in order.
var identities = []string{"name", "type", "mountPath", "containerPort", "port", "key", "ip", "topologyKey", "devicePath", "addresses"}

// compareLists compares two lists element by element, each named by what identifies it; false where nothing does.
func compareLists(out *[]Field, p path, a, b []any) bool {
	id := identity(a, b)
	if id == "" {
		return compareByIndex(out, p, a, b)
	}
	index := map[string]any{}
	for _, e := range a {
		index[idOf(e, id)] = e
	}
	before := len(*out)
	for _, e := range b {
		name := idOf(e, id)
		if was, both := index[name]; both {
			compare(out, p.element(name), was, e)
			delete(index, name)
		} else {
			appear(out, p.element(name), nil, e, true)
		}
	}
	for _, e := range a {
		name := idOf(e, id)
		if was, gone := index[name]; gone {
			appear(out, p.element(name), was, nil, false)
		}
	}
	if was, is := order(a, id), order(b, id); before == len(*out) && !reflect.DeepEqual(was, is) {
		*out = append(*out, Field{path: p, From: was, To: is, Minor: true})
	}
	return true
}

// compareByIndex compares lists of composed elements that nothing identifies, where their lengths agree.
func compareByIndex(out *[]Field, p path, a, b []any) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		_, composed := a[i].(map[string]any)
		if _, also := b[i].(map[string]any); !composed || !also {
			return false
		}
	}
	for i := range a {
		compare(out, p.element(Value(i, 0)), a[i], b[i])
	}
	return true
}

// identity finds the field that every element of both lists has, with no value twice in one list.
func identity(a, b []any) string {
	if len(a)+len(b) == 0 {
		return ""
	}
	for _, field := range identities {
		if distinct(a, field) && distinct(b, field) {
			return field
		}
	}
	return ""
}

func distinct(list []any, field string) bool {
	seen := map[string]bool{}
	for _, e := range list {
		id := idOf(e, field)
		if id == "" || seen[id] {
			return false
		}
		seen[id] = true
	}
	return true
}

// idOf is an element's value of the identifying field, "" where it has none.
func idOf(e any, field string) string {
	m, ok := e.(map[string]any)
	if !ok {
		return ""
	}
	switch v := m[field].(type) {
	case nil, map[string]any:
		return ""
	case []any: // an EndpointSlice's endpoint has a list of addresses, of which the first counts
		if len(v) == 0 {
			return ""
		}
		if s, ok := v[0].(string); ok {
			return s
		}
		return ""
	default:
		return Value(v, 0)
	}
}

func order(list []any, id string) any {
	names := make([]any, len(list))
	for i, e := range list {
		names[i] = idOf(e, id)
	}
	return names
}

// find is the element of a list that goes by an identity or an index.
func find(list []any, id string) (any, bool) {
	if field := identity(list, nil); field != "" {
		for _, e := range list {
			if idOf(e, field) == id {
				return e, true
			}
		}
		return nil, false
	}
	if i, err := strconv.Atoi(id); err == nil && i >= 0 && i < len(list) {
		return list[i], true
	}
	return nil, false
}
