package logtest

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/orlog-io/orlog/events"
)

func guardClass(t *testing.T, f *fixture) {
	d, o := desired("a", 1), observed("a", 1)
	f.must(events.Entry{Event: d, Expect: events.ExpectClass(d.Subject, 0)})
	f.conflict(d.Subject.AnyNode(), 0, 1, events.Entry{Event: d, Expect: events.ExpectClass(d.Subject, 0)})
	// The other class of the object and other objects do not conflict.
	f.must(events.Entry{Event: o, Expect: events.ExpectClass(o.Subject, 0)})
	b := desired("b", 1)
	f.must(events.Entry{Event: b, Expect: events.ExpectClass(b.Subject, 0)})
	f.must(events.Entry{Event: d, Expect: events.ExpectClass(d.Subject, 1)})
	f.conflict(d.Subject.AnyNode(), 1, 4, events.Entry{Event: d, Expect: events.ExpectClass(d.Subject, 1)})
	f.conflict(d.Subject.AnyNode(), 99, 4, events.Entry{Event: d, Expect: events.ExpectClass(d.Subject, 99)})
}

func guardObject(t *testing.T, f *fixture) {
	d, o := desired("a", 1), observed("a", 1)
	f.must(events.Entry{Event: d, Expect: events.ExpectObject(d.Subject, 0)})
	f.must(events.Entry{Event: o})
	f.conflict(d.Subject.AnyClass(), 1, 2, events.Entry{Event: d, Expect: events.ExpectObject(d.Subject, 1)})
	f.must(events.Entry{Event: d, Expect: events.ExpectObject(d.Subject, 2)})
	// A name that begins like ours, and one in another namespace, are other objects.
	f.must(events.Entry{Event: desired("a.b", 1), Expect: events.ExpectObject(desired("a.b", 1).Subject, 0)})
	other := desired("a", 1)
	other.Subject.Key.Namespace = "other"
	f.must(events.Entry{Event: other, Expect: events.ExpectObject(other.Subject, 0)})
	f.must(events.Entry{Event: d, Expect: events.ExpectObject(d.Subject, 3)})
}

func guardAcrossNodes(t *testing.T, f *fixture) {
	f.append(desired("a", 1))
	bound := pod(events.Desired, "a", "node-1", 2)
	f.must(events.Entry{Event: bound, Expect: events.ExpectClass(bound.Subject, 1)})
	unbound := desired("a", 3)
	f.conflict(unbound.Subject.AnyNode(), 1, 2, events.Entry{Event: unbound, Expect: events.ExpectClass(unbound.Subject, 1)})
	f.must(events.Entry{Event: unbound, Expect: events.ExpectClass(unbound.Subject, 2)})
}

func guardBatch(t *testing.T, f *fixture) {
	d, o := desired("a", 1), observed("a", 1)
	// Both classes of one object in one batch, each guarded: how a write that holds spec and status is made.
	f.must(events.Entry{Event: d, Expect: events.ExpectClass(d.Subject, 0)},
		events.Entry{Event: o, Expect: events.ExpectClass(o.Subject, 0)})
	f.conflict(o.Subject.AnyNode(), 0, 2,
		events.Entry{Event: d, Expect: events.ExpectClass(d.Subject, 1)},
		events.Entry{Event: o, Expect: events.ExpectClass(o.Subject, 0)})
	f.conflict(d.Subject.AnyNode(), 0, 1,
		events.Entry{Event: d, Expect: events.ExpectClass(d.Subject, 0)},
		events.Entry{Event: o, Expect: events.ExpectClass(o.Subject, 2)})
	f.must(events.Entry{Event: d, Expect: events.ExpectClass(d.Subject, 1)},
		events.Entry{Event: o, Expect: events.ExpectClass(o.Subject, 2)})
	// One guard on the whole object covers what follows it in the batch.
	f.conflict(d.Subject.AnyClass(), 3, 4,
		events.Entry{Event: d, Expect: events.ExpectObject(d.Subject, 3)}, events.Entry{Event: o})
	f.must(events.Entry{Event: d, Expect: events.ExpectObject(d.Subject, 4)}, events.Entry{Event: o})
	// Many objects, one of them guarded on another node's subject.
	var entries []events.Entry
	for i := range 20 {
		e := pod(events.Desired, fmt.Sprint("p", i), "node-1", i)
		entries = append(entries, events.Entry{Event: e, Expect: events.ExpectObject(e.Subject, 0)})
	}
	f.must(entries...)
}

func retryOne(t *testing.T, f *fixture) {
	a := events.Entry{Event: withID(desired("a", 1), "retry-1"), Expect: events.ExpectClass(desired("a", 1).Subject, 0)}
	first := f.must(a)
	if again := f.must(a); again[0] != first[0] {
		t.Errorf("retry returned %d, want %d", again[0], first[0])
	}
	b := events.Entry{Event: withID(desired("b", 1), "retry-2")}
	second := f.must(b)
	if again := f.must(b); again[0] != second[0] {
		t.Errorf("unguarded retry returned %d, want %d", again[0], second[0])
	}
	if seq := f.last(); seq != 2 {
		t.Errorf("retries left the log at %d, want 2", seq)
	}
}

// retryOvertaken: after our append succeeded, and before we retried it, somebody wrote about the same object.
func retryOvertaken(t *testing.T, f *fixture) {
	a := events.Entry{Event: withID(desired("a", 1), "over-1"), Expect: events.ExpectClass(desired("a", 1).Subject, 0)}
	first := f.must(a)
	f.append(desired("a", 2), observed("a", 3), pod(events.Desired, "a", "node-1", 4))
	seqs, err := f.log.Append(f.ctx, a)
	if err != nil || seqs[0] != first[0] {
		t.Errorf("retry: %v, %v; want %v", seqs, err, first)
	}
	if seq := f.last(); seq != 4 {
		t.Errorf("the log is at %d, want 4", seq)
	}
}

func retryBatch(t *testing.T, f *fixture) {
	var entries []events.Entry
	for i := range 5 {
		e := withID(desired(fmt.Sprint("p", i), i), fmt.Sprint("batch-", i))
		entries = append(entries, events.Entry{Event: e, Expect: events.ExpectClass(e.Subject, 0)})
	}
	entries = append(entries, events.Entry{Event: withID(observed("p0", 9), "batch-unguarded")})
	first := f.must(entries...)
	if again := f.must(entries...); fmt.Sprint(again) != fmt.Sprint(first) {
		t.Errorf("retry returned %v, want %v", again, first)
	}
	f.append(desired("p1", 2), observed("p0", 2))
	if again := f.must(entries...); fmt.Sprint(again) != fmt.Sprint(first) {
		t.Errorf("retry after another write returned %v, want %v", again, first)
	}
	if seq := f.last(); seq != 8 {
		t.Errorf("retries left the log at %d, want 8", seq)
	}
}

func conflictNotRetry(t *testing.T, f *fixture) {
	d := desired("a", 1)
	f.must(events.Entry{Event: withID(d, "mine-1"), Expect: events.ExpectClass(d.Subject, 0)})
	f.conflict(d.Subject.AnyNode(), 0, 1, events.Entry{Event: withID(d, "mine-2"), Expect: events.ExpectClass(d.Subject, 0)})
	// The refused ID is free: the writer may decide again and append under it.
	f.must(events.Entry{Event: withID(d, "mine-2"), Expect: events.ExpectClass(d.Subject, 1)})
	b := desired("b", 1)
	batch := func(last events.Sequence) []events.Entry {
		return []events.Entry{{Event: withID(b, "mine-3")}, {Event: withID(d, "mine-4"), Expect: events.ExpectClass(d.Subject, last)}}
	}
	f.conflict(d.Subject.AnyNode(), 1, 2, batch(1)...)
	f.must(batch(2)...)
}

func race(t *testing.T, f *fixture) {
	const writers, rounds = 8, 12
	for round := range rounds {
		var last events.Sequence
		if round > 0 {
			last = f.last()
		}
		won := make([]events.Sequence, writers)
		var wg sync.WaitGroup
		for w := range writers {
			wg.Go(func() {
				e := pod(events.Desired, "a", fmt.Sprint("node-", w%3), w)
				entries := []events.Entry{{Event: e, Expect: events.ExpectClass(e.Subject, last)}}
				if w%2 == 1 {
					entries = append(entries, events.Entry{Event: pod(events.Observed, "a", "", w)})
				}
				seqs, err := f.log.Append(f.ctx, entries...)
				switch {
				case err == nil:
					won[w] = seqs[0]
				case !errors.Is(err, events.ErrConflict):
					t.Errorf("writer %d: %v", w, err)
				}
			})
		}
		wg.Wait()
		var winners int
		for _, seq := range won {
			if seq != 0 {
				winners++
			}
		}
		if winners != 1 {
			t.Fatalf("round %d: %d of %d racing writers succeeded: %v", round, winners, writers, won)
		}
		// The next round's guard must be on the class that all of them write.
		if e, err := f.log.LastOn(f.ctx, desired("a", 0).Subject.AnyNode()); err != nil {
			t.Fatal(err)
		} else if e.Sequence != f.last() {
			f.append(desired("a", "level"))
		}
	}
}
