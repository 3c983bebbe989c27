package events

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"
)

func example() Event {
	return Event{ID: "1", Subject: Subject{Class: Desired, Key: Key{"apps", "deployments", "default", "web"}}, Type: "io.orlog.deployment.scaled",
		Source: "gateway", Time: time.Date(2026, 11, 20, 14, 5, 0, 1, time.UTC), Actor: "ada@example.com", OnBehalfOf: "ops", Cause: 7, Correlation: 3,
		Reason: "more load", UID: "u", TraceParent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
		Object: json.RawMessage(`{"spec":{"replicas":3}}`), Changes: json.RawMessage(`[{"op":"replace","path":"/spec/replicas","value":3}]`)}
}

func TestEscapeHeader(t *testing.T) {
	for plain, escaped := range map[string]string{
		"":                       "",
		"plain-Text_1/2:3":       "plain-Text_1/2:3",
		"Euro \u20ac \U0001f600": "Euro%20%E2%82%AC%20%F0%9F%98%80", // the CloudEvents HTTP binding's own example
		"100 % \"sure\"\r\n":     "100%20%25%20%22sure%22%0D%0A",
		"\x00\x7f\xff":           "%00%7F%FF",
	} {
		if got := escapeHeader(plain); got != escaped {
			t.Errorf("%q: got %s, want %s", plain, got, escaped)
		}
		for _, s := range []string{escaped, strings.ToLower(escaped)} { // other writers may use lower case
			if got, err := unescapeHeader(s); err != nil || escaped == s && got != plain {
				t.Errorf("%s: got %q, %v", s, got, err)
			}
		}
	}
	for _, s := range []string{"%", "a%2", "%zz", "%+1"} {
		if got, err := unescapeHeader(s); !errors.Is(err, ErrInvalid) {
			t.Errorf("%q: got %q, %v; want ErrInvalid", s, got, err)
		}
	}
}

func TestEncodeLimits(t *testing.T) {
	e := example()
	e.Reason = strings.Repeat("\u20ac", MaxHeaderBytes/9)
	if _, err := Encode(e); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "reason") {
		t.Errorf("a reason too long: %v", err)
	}
	e = example()
	e.Object = json.RawMessage(`{"a":"` + strings.Repeat("x", MaxEventBytes) + `"}`)
	if _, err := Encode(e); !errors.Is(err, ErrInvalid) {
		t.Errorf("an object too large: %v", err)
	}
}

func TestStructuredIsNotPercentEncoded(t *testing.T) {
	e := example()
	e.Sequence, e.Reason, e.Actor = 9, "100 % \"sure\"", "j\u00fcrgen"
	b, err := Structured(e)
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]any{"specversion": "1.0", "id": "1", "type": e.Type, "source": "/orlog/gateway", "subject": "apps/deployments/default/web",
		"time": "2026-11-20T14:05:00.000000001Z", "actor": e.Actor, "reason": e.Reason, "cause": "7", "correlation": "3", "sequence": "9",
		"datacontenttype": "application/json", "natssubject": e.Subject.String(), "traceparent": e.TraceParent, "onbehalfof": "ops", "uid": "u"} {
		if got[name] != want {
			t.Errorf("%s: got %v, want %v", name, got[name], want)
		}
	}
}

// FuzzEncodeDecode: an event comes back from its message as it was, and its headers are printable ASCII.
func FuzzEncodeDecode(f *testing.F) {
	f.Add("id", "io.orlog.pod.bound", "scheduler", "system:scheduler", "", "because", "uid", "", "web-1", "node", int64(1), uint64(2))
	f.Add(" %41", "io.orlog.a\nb.c", "/orlog/x", "a\r\nce-actor: root", "\xff", "\u00fc \"q\"", "%", "tp", "a b", "", int64(-1), uint64(0))
	f.Fuzz(func(t *testing.T, id, typ, source, actor, behalf, reason, uid, trace, name, node string, at int64, cause uint64) {
		e := Event{ID: id, Type: typ, Source: source, Actor: actor, OnBehalfOf: behalf, Reason: reason, UID: uid, TraceParent: trace,
			Subject: Subject{Class: Desired, Key: Key{"", "pods", "ns", name}, Node: node}, Time: time.Unix(0, at).UTC(), Cause: Sequence(cause),
			Correlation: Sequence(cause / 2), Object: json.RawMessage(`{}`)}
		if e.Validate() != nil {
			return
		}
		w, err := Encode(e)
		if err != nil {
			t.Fatal(err)
		}
		for h, v := range w.Header {
			for _, b := range []byte(h + v) {
				if b < ' ' || b >= 0x7f {
					t.Fatalf("header %q: %q holds %q", h, v, b)
				}
			}
		}
		stored := time.Unix(1, 2).UTC()
		back, err := Decode(w, 5, stored)
		if err != nil {
			t.Fatal(err)
		}
		e.Sequence, e.Stored = 5, stored
		if !reflect.DeepEqual(back, e) {
			t.Fatalf("got\n%+v\nwant\n%+v", back, e)
		}
	})
}

// FuzzBody: a payload is what json.Marshal writes, byte for byte: the notary's leaves hold it.
func FuzzBody(f *testing.F) {
	for _, seed := range []string{`{}`, `{"a":[1,{"b":"c d"}]}`, `{"a": 1}`, "{\n}", `{"a":"<&>"}`, `{"a":"\u003c"}`, "{\"a\":\"\u2028\u20ac\"}", `{"a\\":"\""}`, `{"\" ":1}`, `null`, "{\"a\":\"\xff\"}"} {
		f.Add(seed, `[{"op":"add"}]`)
		f.Add(`{"spec":{}}`, seed)
	}
	f.Add(`{}`, "")
	f.Fuzz(func(t *testing.T, object, changes string) {
		if !json.Valid([]byte(object)) || changes != "" && !json.Valid([]byte(changes)) {
			return
		}
		want, err := json.Marshal(data{Object: json.RawMessage(object), Changes: json.RawMessage(changes)})
		if err != nil {
			t.Fatal(err)
		}
		got, err := Event{Object: json.RawMessage(object), Changes: json.RawMessage(changes)}.body()
		if err != nil || string(got) != string(want) {
			t.Fatalf("got %s, %v; want %s", got, err, want)
		}
	})
}

// FuzzDecode: no message, however malformed, panics.
func FuzzDecode(f *testing.F) {
	f.Add("orlog.desired.core.pods.default.a.-", "2026-11-20T14:05:00Z", "1", "x", `{"object":{}}`)
	f.Fuzz(func(_ *testing.T, subject, at, cause, actor, body string) {
		w := Wire{Subject: subject, Header: map[string]string{headerTime: at, headerCause: cause, headerActor: actor}, Data: []byte(body)}
		_, _ = Decode(w, 1, time.Time{})
	})
}
