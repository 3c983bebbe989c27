package projections

import (
	"bytes"
	"cmp"
	"testing"

	"github.com/orlog-io/orlog/events"
)

func FuzzKeyOrder(f *testing.F) {
	f.Add("a", "b", "a\x00", "b")
	f.Add("", "\x00\x01", "\x00", "\x01")
	f.Add("ab", "", "a", "b")
	f.Add("a\x00\xff", "x", "a\x00", "\xff")
	f.Fuzz(func(t *testing.T, aNamespace, aName, bNamespace, bName string) {
		a, b := events.Key{Resource: "r", Namespace: aNamespace, Name: aName}, events.Key{Resource: "r", Namespace: bNamespace, Name: bName}
		ra, rb := objectRow(spaceLive, a), objectRow(spaceLive, b)
		if want := cmp.Or(cmp.Compare(aNamespace, bNamespace), cmp.Compare(aName, bName)); bytes.Compare(ra, rb) != want {
			t.Fatalf("%x and %x compare as %d, the keys as %d", ra, rb, bytes.Compare(ra, rb), want)
		}
		got, rest, err := cutKey(append(ra[1:], "rest"...))
		if err != nil || got != a || string(rest) != "rest" {
			t.Fatalf("%q read back as %q, %q, %v", a, got, rest, err)
		}
	})
}

func TestRowsCutShort(t *testing.T) {
	e := newHistory(1).event()
	st := row{State: events.State{Key: e.Subject.Key, UID: "uid", Node: "node", Object: e.Object, Revision: 300, Created: 1, Desired: 300, Observed: 2}, owners: []string{"owner"}}
	whole := encodeRow(nil, st, true)
	for n := range whole {
		if _, err := decodeRow(e.Subject.Key, whole[:n]); err == nil {
			t.Fatalf("a row cut to %d of %d bytes was read", n, len(whole))
		}
	}
	whole = encodeEvent(nil, eventRecord{Event: e, changed: true})
	for n := range whole {
		if _, err := decodeEvent(1, whole[:n]); err == nil {
			t.Fatalf("an event cut to %d of %d bytes was read", n, len(whole))
		}
	}
}
