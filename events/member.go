package events

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
)

// Folding moves a status from one object into another and leaves all else alone. So it cuts an object into its
// members and joins them again, without decoding what is in them. That works on JSON in compact form, which is
// what every writer here makes. On anything else (white space, escaped or repeated names, malformed text)
// encoding/json does the work, to the same end: members sorted by name, written as json.Marshal would.

// member is one member of a JSON object: its name without quotes, its value as it stands.
type member struct{ name, value []byte }

// fields are an object's members, sorted by name; nil is what is no object.
type fields []member

// maxMembers is how many members an object may have to be cut: names are compared with each other.
const maxMembers = 24

// Member is the value of a JSON object's member, as it stands; nil where it has none, or is not an object. The
// last one counts where a name is repeated. The value may share the object's memory.
func Member(object json.RawMessage, name string) json.RawMessage {
	if f, ok := cutObject(object); ok {
		return f.get(name)
	}
	var decoded map[string]json.RawMessage
	if json.Unmarshal(object, &decoded) != nil {
		return nil
	}
	return decoded[name]
}

// Members are all members of a JSON object, as [Member] gives them. An error says that it is none; null has no members.
func Members(object json.RawMessage) (map[string]json.RawMessage, error) {
	if f, ok := cutObject(object); ok {
		out := make(map[string]json.RawMessage, len(f))
		for _, m := range f {
			out[string(m.name)] = m.value
		}
		return out, nil
	}
	var out map[string]json.RawMessage
	err := json.Unmarshal(object, &out)
	return out, err
}

// Elements are the elements of a JSON array as they stand. An error says that it is none; null has no elements.
func Elements(array json.RawMessage) ([]json.RawMessage, error) {
	if elements, ok := cutArray(array); ok {
		return elements, nil
	}
	var out []json.RawMessage
	err := json.Unmarshal(array, &out)
	return out, err
}

// parse takes an object apart. whole is the object of the fields: b itself where it is in that form already.
func parse(b []byte) (whole json.RawMessage, f fields) {
	if f, ok := cutObject(b); ok && !wouldEscape(b) {
		if slices.IsSortedFunc(f, byName) {
			return b, f
		}
		slices.SortFunc(f, byName)
		return f.bytes(), f
	}
	var decoded map[string]json.RawMessage
	if len(b) == 0 || json.Unmarshal(b, &decoded) != nil || decoded == nil {
		return nil, nil
	}
	f = make(fields, 0, len(decoded))
	for _, name := range slices.Sorted(maps.Keys(decoded)) {
		quoted := raw(name)
		f = append(f, member{quoted[1 : len(quoted)-1], raw(decoded[name])})
	}
	return f.bytes(), f
}

// wouldEscape: encoding/json would write some of the text in another way, which Fold's results must not depend on.
func wouldEscape(b []byte) bool {
	return bytes.IndexByte(b, '<') >= 0 || bytes.IndexByte(b, '>') >= 0 || bytes.IndexByte(b, '&') >= 0 || bytes.Contains(b, lineSeparators)
}

// asMarshalled: encoding/json would write this JSON as it stands. Whether it is JSON is not checked.
func asMarshalled(b []byte) bool {
	for i := 0; i < len(b); {
		switch b[i] {
		case '"':
			if i = skipString(b, i); i < 0 {
				return false
			}
			continue
		case ' ', '\t', '\n', '\r':
			return false
		}
		i++
	}
	return !wouldEscape(b)
}

var lineSeparators = []byte("\xe2\x80") // U+2028 and U+2029 begin so

func byName(a, b member) int { return bytes.Compare(a.name, b.name) }

func (f fields) index(name string) int {
	for i := range f {
		if string(f[i].name) == name {
			return i
		}
	}
	return -1
}

func (f fields) get(name string) json.RawMessage {
	if i := f.index(name); i >= 0 {
		return f[i].value
	}
	return nil
}

// set gives a member a value; nil takes the member away. f itself stays as it is.
func (f fields) set(name string, value json.RawMessage) fields {
	i := f.index(name)
	switch {
	case i < 0 && value == nil:
		return f
	case i < 0:
		added := member{[]byte(name), value}
		at, _ := slices.BinarySearchFunc(f, added, byName)
		return slices.Insert(slices.Clip(f), at, added)
	case value == nil:
		return slices.Delete(slices.Clone(f), i, i+1)
	}
	f = slices.Clone(f)
	f[i].value = value
	return f
}

// bytes is the object of the members.
func (f fields) bytes() json.RawMessage {
	size := 2
	for _, m := range f {
		size += len(m.name) + len(m.value) + 4
	}
	out := append(make([]byte, 0, size), '{')
	for i, m := range f {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(append(append(out, '"'), m.name...), '"', ':')
		out = append(out, m.value...)
	}
	return append(out, '}')
}

// cutObject cuts an object in compact form; ok is false where it must be decoded instead.
func cutObject(b []byte) (f fields, ok bool) {
	if len(b) < 2 || b[0] != '{' {
		return nil, false
	}
	f = make(fields, 0, 8)
	if b[1] == '}' {
		return f, len(b) == 2
	}
	for at := 1; ; {
		colon := skipString(b, at)
		if colon < 0 || colon >= len(b) || b[colon] != ':' || len(f) == maxMembers {
			return nil, false
		}
		name := b[at+1 : colon-1]
		end := skipValue(b, colon+1)
		if end < 0 || end >= len(b) || bytes.IndexByte(name, '\\') >= 0 || f.index(string(name)) >= 0 {
			return nil, false
		}
		f = append(f, member{name, b[colon+1 : end : end]})
		if b[end] == '}' {
			return f, end == len(b)-1
		}
		if b[end] != ',' {
			return nil, false
		}
		at = end + 1
	}
}

// parseArray takes an array apart; ok is false for what is none. null is an empty one.
func parseArray(b []byte) (elements []json.RawMessage, ok bool) {
	if elements, ok = cutArray(b); ok {
		return elements, true
	}
	var decoded []json.RawMessage
	if json.Unmarshal(b, &decoded) != nil {
		return nil, false
	}
	for i := range decoded {
		decoded[i] = raw(decoded[i])
	}
	return decoded, true
}

// cutArray returns an array's elements; ok is false where it must be decoded instead.
func cutArray(b []byte) (elements []json.RawMessage, ok bool) {
	if len(b) < 2 || b[0] != '[' {
		return nil, false
	}
	if b[1] == ']' {
		return nil, len(b) == 2
	}
	for at := 1; ; {
		end := skipValue(b, at)
		if end < 0 || end >= len(b) {
			return nil, false
		}
		elements = append(elements, b[at:end:end])
		if b[end] == ']' {
			return elements, end == len(b)-1
		}
		if b[end] != ',' {
			return nil, false
		}
		at = end + 1
	}
}

// skipString returns where the string that begins at i ends, -1 where there is none.
func skipString(b []byte, i int) int {
	if i >= len(b) || b[i] != '"' {
		return -1
	}
	for i++; ; i++ {
		n := bytes.IndexByte(b[i:], '"')
		if n < 0 {
			return -1
		}
		i += n
		escapes := 0
		for b[i-1-escapes] == '\\' { // ends at the opening quote at the latest
			escapes++
		}
		if escapes%2 == 0 {
			return i + 1
		}
	}
}

// skipValue returns where the value that begins at i ends, -1 where it does not, is empty or is not compact.
// What it skips is taken to be JSON, not checked.
func skipValue(b []byte, i int) int {
	depth := 0
	for begin := i; i < len(b); {
		switch c := b[i]; c {
		case '"':
			if i = skipString(b, i); i < 0 {
				return -1
			}
			continue
		case '{', '[':
			depth++
		case '}', ']':
			if depth == 0 {
				return orNone(begin, i)
			}
			depth--
		case ',':
			if depth == 0 {
				return orNone(begin, i)
			}
		case ' ', '\t', '\n', '\r':
			return -1
		}
		i++
	}
	return -1
}

func orNone(begin, end int) int {
	if begin == end {
		return -1
	}
	return end
}

// joinArray is an array of elements.
func joinArray(elements ...[]json.RawMessage) json.RawMessage {
	out := []byte{'['}
	for _, some := range elements {
		for _, e := range some {
			if len(out) > 1 {
				out = append(out, ',')
			}
			out = append(out, e...)
		}
	}
	return append(out, ']')
}
