package logtest

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/orlog-io/orlog/events"
)

func appendAndGet(t *testing.T, f *fixture) {
	a := f.append(desired("a", 1))
	b := f.append(desired("b", 1), observed("a", 2))
	if a[0] != 1 || b[0] != 2 || b[1] != 3 {
		t.Fatalf("sequences %v %v, want 1, 2, 3", a, b)
	}
	for seq, name := range map[events.Sequence]string{1: "a", 2: "b", 3: "a"} {
		e := f.get(seq)
		if e.Sequence != seq || e.Subject.Key.Name != name {
			t.Errorf("get %d: %s, want %s", seq, describe(e), name)
		}
		if e.ID == "" {
			t.Errorf("get %d: the log gave the event no ID", seq)
		}
		if e.Stored.IsZero() {
			t.Errorf("get %d: the log did not say when it was stored", seq)
		}
	}
}

func roundTrip(t *testing.T, f *fixture) {
	f.append(desired("a", 1))
	in := pod(events.Observed, "a.b*c d", "node 1.example", "body \u00e9")
	in.ID, in.OnBehalfOf, in.Cause, in.Correlation = "id-1", "jürgen@example.com", 1, 1
	in.Actor, in.Source = `system:node:"n%1"`, "agent/node-1"
	in.Reason = "zwei\nZeilen, 100 % \"sicher\""
	in.TraceParent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	in.Changes = []byte(`[{"op":"test","path":"/status","value":1},{"op":"replace","path":"/status","value":2}]`)
	seq := f.append(in)[0]
	out := f.get(seq)
	if out.Stored.IsZero() {
		t.Error("Stored is zero")
	}
	in.Sequence, in.Stored = seq, out.Stored
	if !reflect.DeepEqual(out, in) {
		t.Errorf("got\n%+v\nwant\n%+v", out, in)
	}
}

func emptyLog(t *testing.T, f *fixture) {
	if seq := f.last(); seq != 0 {
		t.Errorf("last of an empty log is %d", seq)
	}
	for _, seq := range []events.Sequence{0, 1, 1 << 40} {
		if _, err := f.log.Get(f.ctx, seq); !errors.Is(err, events.ErrNotFound) {
			t.Errorf("get %d: %v, want ErrNotFound", seq, err)
		}
	}
	if _, err := f.log.LastOn(f.ctx, "orlog.>"); !errors.Is(err, events.ErrNotFound) {
		t.Errorf("last on: %v, want ErrNotFound", err)
	}
}

func invalid(t *testing.T, f *fixture) {
	bad := func(change func(*events.Event)) events.Entry {
		e := desired("a", 1)
		change(&e)
		return events.Entry{Event: e}
	}
	good := events.Entry{Event: desired("a", 1)}
	guarded := events.Entry{Event: desired("a", 1), Expect: events.ExpectClass(desired("a", 1).Subject, 0)}
	same := events.Entry{Event: withID(desired("a", 1), "same")}
	for name, entries := range map[string][]events.Entry{
		"nothing":              {},
		"no type":              {bad(func(e *events.Event) { e.Type = "" })},
		"no actor":             {good, bad(func(e *events.Event) { e.Actor = "" })},
		"no name":              {bad(func(e *events.Event) { e.Subject.Key.Name = "" })},
		"object not an object": {bad(func(e *events.Event) { e.Object = []byte(`[]`) })},
		"too large":            {bad(func(e *events.Event) { e.Object = []byte(`{"a":"` + strings.Repeat("x", events.MaxEventBytes) + `"}`) })},
		"too many":             slicesRepeat(good, events.MaxBatch+1),
		"guard twice":          {guarded, guarded},
		"ID twice":             {same, same},
	} {
		seqs, err := f.log.Append(f.ctx, entries...)
		if !errors.Is(err, events.ErrInvalid) {
			t.Errorf("%s: got %v, %v; want ErrInvalid", name, seqs, err)
		}
	}
	if seq := f.last(); seq != 0 {
		t.Errorf("invalid appends left %d events", seq)
	}
}

func slicesRepeat(e events.Entry, n int) []events.Entry {
	out := make([]events.Entry, n)
	for i := range out {
		out[i] = e
	}
	return out
}

func batchAtomic(t *testing.T, f *fixture) {
	f.append(desired("a", 1))
	a, b, c := desired("a", 2), desired("b", 1), desired("c", 1)
	f.conflict(a.Subject.AnyNode(), 0, 1,
		events.Entry{Event: b, Expect: events.ExpectClass(b.Subject, 0)},
		events.Entry{Event: c},
		events.Entry{Event: a, Expect: events.ExpectClass(a.Subject, 0)})
	for _, s := range []events.Subject{b.Subject, c.Subject} {
		if e, err := f.log.LastOn(f.ctx, s.AnyNode()); !errors.Is(err, events.ErrNotFound) {
			t.Errorf("%s of the failed batch is on the log: %v %v", s, describe(e), err)
		}
	}
	seqs := f.must(
		events.Entry{Event: b, Expect: events.ExpectClass(b.Subject, 0)},
		events.Entry{Event: c},
		events.Entry{Event: a, Expect: events.ExpectClass(a.Subject, 1)})
	f.sequences(f.read(f.subscribe(2), 3), 2, 3, 4)
	if seqs[0] != 2 || seqs[2] != 4 {
		t.Errorf("sequences %v, want 2 3 4", seqs)
	}
}

func batchFull(t *testing.T, f *fixture) {
	f.append(desired("first", 0))
	var es []events.Event
	for i := range events.MaxBatch {
		es = append(es, desired(fmt.Sprint("p", i), i))
	}
	seqs := f.append(es...)
	got := f.read(f.subscribe(2), len(es))
	for i, e := range got {
		if e.Sequence != seqs[i] || seqs[i] != events.Sequence(i+2) || e.Subject.Key.Name != es[i].Subject.Key.Name {
			t.Fatalf("event %d of the batch: %s with returned sequence %d", i, describe(e), seqs[i])
		}
	}
}

func largeEvents(t *testing.T, f *fixture) {
	var es []events.Event
	for i := range 4 {
		es = append(es, desired(fmt.Sprint("p", i), strings.Repeat(fmt.Sprint(i), 2<<20)))
	}
	f.append(es[0])
	f.append(es[1:]...)
	for i, e := range f.read(f.subscribe(1), len(es)) {
		if !bytes.Equal(e.Object, es[i].Object) {
			t.Errorf("event %d: object of %d bytes came back as %d bytes", i, len(es[i].Object), len(e.Object))
		}
	}
}

func lastNeverBehind(t *testing.T, f *fixture) {
	start := time.Now()
	for i := 0; i < 300 && time.Since(start) < patience; i++ {
		seqs := f.append(desired("a", i))
		if got := f.last(); got < seqs[0] {
			t.Fatalf("append returned %d, then Last said %d", seqs[0], got)
		}
	}
}

func lastOn(t *testing.T, f *fixture) {
	f.append(desired("a", 1), observed("a", 1), desired("b", 1), pod(events.Desired, "a", "n1", 2))
	a := desired("a", 1).Subject
	for pattern, want := range map[string]events.Sequence{
		a.String():                         1,
		a.AnyNode():                        4,
		a.AnyClass():                       4,
		observed("a", 1).Subject.AnyNode(): 2,
		"orlog.desired.>":                  4,
		"orlog.observed.>":                 2,
		"orlog.*.core.pods.default.b.*":    3,
		"orlog.*.core.pods.*.*.n1":         4,
		"orlog.*.core.pods.*.*.n2":         0,
		"orlog.*.apps.>":                   0,
	} {
		e, err := f.log.LastOn(f.ctx, pattern)
		switch {
		case want == 0 && !errors.Is(err, events.ErrNotFound):
			t.Errorf("last on %s: %s, %v; want ErrNotFound", pattern, describe(e), err)
		case want != 0 && (err != nil || e.Sequence != want):
			t.Errorf("last on %s: %s, %v; want %d", pattern, describe(e), err, want)
		}
	}
}
