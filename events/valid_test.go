package events

import (
	"encoding/json"
	"strings"
	"testing"
)

// FuzzValidJSON: what encoding/json takes for JSON, and nothing else, is taken for it here.
func FuzzValidJSON(f *testing.F) {
	for _, seed := range []string{
		"", " ", "{}", "[]", "null", "true", "false", "nul", "truer", "-", "-0", "01", "1.", "1.5e+10", "1e", "-1E-2", ".5", "+1", "1 2",
		`{"a":1}`, `{"a":1,}`, `{"a" : [ 1 , "b" , { } ] }`, `{a:1}`, `{"a"}`, `{"a":}`, `{,}`, `[1,]`, `[,]`, "[1\n,\t2\r]", `{"a":1}}`, `[[]`,
		`"\u00e9\n\/\\\""`, `"\u00g0"`, `"\x"`, `"\`, `"`, "\"\x1f\"", "\"\x7f\xff\"", "\v1", "\ufeff{}", `{"a":1,"a":2}`, "[1]\x00",
	} {
		f.Add([]byte(seed))
	}
	for _, depth := range []int{maxNesting, maxNesting + 1} {
		f.Add([]byte(strings.Repeat("[", depth) + strings.Repeat("]", depth)))
		f.Add([]byte(strings.Repeat(`{"a":`, depth) + "1" + strings.Repeat("}", depth)))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if got, want := validJSON(b), json.Valid(b); got != want {
			t.Errorf("%.200q: %v, want %v", b, got, want)
		}
	})
}

// BenchmarkValidJSON beside encoding/json's.
func BenchmarkValidJSON(b *testing.B) {
	object := []byte(`{"metadata":{"labels":{` + strings.Repeat(`"app.kubernetes.io/name":"web",`, 30) + `"n":"x"}},"spec":{"replicas":3,"ports":[80,443]}}`)
	for name, valid := range map[string]func([]byte) bool{"ours": validJSON, "encoding-json": json.Valid} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(object)))
			for b.Loop() {
				if !valid(object) {
					b.Fatal("not valid")
				}
			}
		})
	}
}
