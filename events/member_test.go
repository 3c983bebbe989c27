package events

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"unicode/utf8"
)

// TestMemberCuts holds cutting and joining to what encoding/json makes of the same text.
func TestMemberCuts(t *testing.T) {
	for _, text := range []string{`{}`, `{"a":1}`, `{"b":{"x":[1,{"y":"}"}]},"a":"q\"\\"}`, `{"a":"\\"}`, `{"a":"\\\\\""}`, `{"":null}`,
		`{"a":1,"a":2}`, `{"\u0061":1}`, `{ "a" : [ 1 ] }`, "{\"a\":1}\n", `{"a":1},`, `{"a":}`, `{"a"}`, `{"a":1`, `{"a":"`, `{"a":[}`, `{"a":1,}`, `{,}`, `{"a`, `{`,
		`[]`, `null`, ``, `{"é":"ü"}`, `{"a<b":"c"}`, `{"status":"x\\","b":"\\\\"}`,
		"{" + strings.Repeat(`"x":1,`, 30) + `"z":2}`, wide(maxMembers + 5)} {
		checkCut(t, []byte(text))
	}
	for seed := range uint64(2000) {
		r := rand.New(rand.NewPCG(seed, 7))
		b := mustJSON(randomJSON(r, 3))
		checkCut(t, b)
		if r.IntN(2) == 0 {
			checkCut(t, []byte(strings.ReplaceAll(string(b), ",", " ,")))
		}
	}
}

func wide(n int) string {
	var members []string
	for i := range n {
		members = append(members, fmt.Sprintf(`"m%d":%d`, n-i, i))
	}
	return "{" + strings.Join(members, ",") + "}"
}

func randomJSON(r *rand.Rand, depth int) any {
	texts := []string{"", "a", `quote"`, `back\`, "two\nlines", "}{][,:", "ü", "a<b", "\u2028", `\"`}
	switch n := r.IntN(6); {
	case n == 0 || depth == 0:
		return texts[r.IntN(len(texts))]
	case n == 1:
		return r.IntN(1000)
	case n == 2:
		list := make([]any, r.IntN(4))
		for i := range list {
			list[i] = randomJSON(r, depth-1)
		}
		return list
	default:
		object := map[string]any{}
		for range r.IntN(5) {
			object[texts[r.IntN(len(texts))]+fmt.Sprint(r.IntN(3))] = randomJSON(r, depth-1)
		}
		return object
	}
}

// checkCut: what is cut must be what json.Unmarshal finds, and joined again mean the same. Of text that is no
// JSON it only asks that nothing panics.
func checkCut(t *testing.T, b []byte) {
	t.Helper()
	whole, f := parse(b)
	var want map[string]json.RawMessage
	if json.Unmarshal(b, &want) != nil || !utf8.Valid(b) {
		return
	}
	if (f == nil) != (want == nil) || len(f) != len(want) {
		t.Fatalf("%s: cut into %q, want %q", b, f, want)
	}
	if want == nil {
		return
	}
	if joined := f.bytes(); !bytes.Equal(joined, whole) {
		t.Fatalf("%s: whole is %s, joined %s", b, whole, joined)
	}
	if canonical := mustJSON(want); !bytes.Equal(whole, canonical) {
		t.Fatalf("%s: whole is %s, want %s", b, whole, canonical)
	}
	all, err := Members(b)
	if err != nil || len(all) != len(want) {
		t.Fatalf("%s: members are %s (%v), want %s", b, all, err, want)
	}
	for name, value := range want {
		if got := escaped(t, all[name]); !bytes.Equal(got, escaped(t, value)) {
			t.Fatalf("%s: member %q of all is %s, want %s", b, name, got, value)
		}
		var elements []json.RawMessage
		wrong := json.Unmarshal(value, &elements)
		got, err := Elements(value)
		if (err == nil) != (wrong == nil) || len(got) != len(elements) {
			t.Fatalf("%s: elements are %s (%v), want %s (%v)", value, got, err, elements, wrong)
		}
		for i := range elements {
			if !bytes.Equal(escaped(t, got[i]), escaped(t, elements[i])) {
				t.Fatalf("%s: element %d is %s, want %s", value, i, got[i], elements[i])
			}
		}
		if got := escaped(t, Member(b, name)); !bytes.Equal(got, escaped(t, value)) {
			t.Fatalf("%s: member %q is %s, want %s", b, name, got, value)
		}
	}
}

// escaped is JSON as json.Marshal writes it.
func escaped(t *testing.T, b json.RawMessage) []byte {
	t.Helper()
	out, err := json.Marshal(b)
	if err != nil {
		t.Fatalf("%s: %v", b, err)
	}
	return out
}

func FuzzMember(f *testing.F) {
	f.Add([]byte(`{"a":{"b":"\\\""},"c":[1,"]"]}`))
	f.Fuzz(func(t *testing.T, b []byte) { checkCut(t, b) })
}

// TestFoldLikeReference folds random objects and compares with a fold that decodes everything.
func TestFoldLikeReference(t *testing.T) {
	for seed := range uint64(3000) {
		r := rand.New(rand.NewPCG(seed, 11))
		prev, next := randomPod(r), randomPod(r)
		if got, want := keepStatus(prev, next), referenceKeep(prev, next); !bytes.Equal(got, want) {
			t.Fatalf("seed %d: keeping the status of\n%s\nin\n%s\ngives\n%s\nwant\n%s", seed, prev, next, got, want)
		}
		fromNode := r.IntN(2) == 0
		got, ok := withStatus(prev, next, fromNode)
		want, wanted := referenceReport(prev, next, fromNode)
		if ok != wanted || !bytes.Equal(got, want) {
			t.Fatalf("seed %d: reporting\n%s\nabout\n%s\ngives\n%s\nwant\n%s", seed, next, prev, got, want)
		}
	}
}

func randomPod(r *rand.Rand) json.RawMessage {
	meta := map[string]any{"uid": "u", "labels": randomJSON(r, 1)}
	var managers []any
	for range r.IntN(4) {
		m := map[string]any{"manager": fmt.Sprint("m", r.IntN(5)), "fieldsV1": map[string]any{"f:subresource": map[string]any{}}}
		if sub := r.IntN(3); sub > 0 {
			m["subresource"] = []string{"status", "scale"}[sub-1]
		}
		managers = append(managers, m)
	}
	if managers != nil || r.IntN(4) == 0 {
		meta["managedFields"] = managers
	}
	object := map[string]any{"kind": "Pod", "metadata": meta, "spec": randomJSON(r, 2)}
	switch r.IntN(4) {
	case 0:
		object["status"] = nil
	case 1, 2:
		object["status"] = randomJSON(r, 2)
	}
	if r.IntN(10) == 0 {
		object["metadata"] = nil
	}
	b := mustJSON(object)
	if r.IntN(8) == 0 { // as a writer that does not escape would have it
		b = []byte(strings.ReplaceAll(string(b), `\u003c`, "<"))
	}
	if r.IntN(4) == 0 {
		var spaced bytes.Buffer
		if json.Indent(&spaced, b, "", " ") == nil {
			b = spaced.Bytes()
		}
	}
	return b
}

func decoded(b json.RawMessage) map[string]json.RawMessage {
	var f map[string]json.RawMessage
	if json.Unmarshal(b, &f) != nil {
		return nil
	}
	return f
}

func referenceKeep(prev, obj json.RawMessage) json.RawMessage {
	o, p := decoded(obj), decoded(prev)
	if status, given := o["status"]; given {
		if string(status) == "null" {
			delete(o, "status")
		}
		return mustJSON(o)
	}
	if status, had := p["status"]; had {
		o["status"] = status
		referenceManagers(o, p)
	}
	return mustJSON(o)
}

func referenceReport(obj, report json.RawMessage, fromNode bool) (json.RawMessage, bool) {
	o, r := decoded(obj), decoded(report)
	status, given := r["status"]
	if !given || fromNode && status[0] != '{' && string(status) != "null" {
		return nil, false
	}
	if o["status"] = status; string(status) == "null" {
		delete(o, "status")
	}
	referenceManagers(o, r)
	return mustJSON(o), true
}

// referenceManagers gives an object the status's managedFields entries of another one, if that has any.
func referenceManagers(o, from map[string]json.RawMessage) {
	split := func(meta map[string]json.RawMessage) (status, rest []json.RawMessage) {
		var all []json.RawMessage
		_ = json.Unmarshal(meta["managedFields"], &all)
		for _, entry := range all {
			if string(decoded(entry)["subresource"]) == `"status"` {
				status = append(status, entry)
			} else {
				rest = append(rest, entry)
			}
		}
		return status, rest
	}
	meta := decoded(o["metadata"])
	status, _ := split(decoded(from["metadata"]))
	if status == nil || meta == nil {
		return
	}
	_, rest := split(meta)
	meta["managedFields"] = mustJSON(append(append([]json.RawMessage{}, rest...), status...))
	o["metadata"] = mustJSON(meta)
}
