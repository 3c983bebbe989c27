package jetstream_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/events/jetstream"
)

// TestCompany: many appends wait at the same time, and what becomes of one does not depend on the others:
// guards fail for their own writers only, retries are recognised, and everything acknowledged is there.
func TestCompany(t *testing.T) {
	l := open(t, connect(t, jetstream.Options{URL: start(t).URL()}))
	const writers, rounds = 48, 12
	var mu sync.Mutex
	acknowledged := map[string]events.Sequence{} // by event ID
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			companion(t, l, w, rounds, func(id string, seq events.Sequence) {
				mu.Lock()
				defer mu.Unlock()
				acknowledged[id] = seq
			})
		})
	}
	wg.Wait()
	at := map[events.Sequence]string{}
	for id, seq := range acknowledged {
		if other, taken := at[seq]; taken {
			t.Fatalf("%s and %s were both told %d", other, id, seq)
		}
		at[seq] = id
		if e, err := l.Get(t.Context(), seq); err != nil || e.ID != id {
			t.Fatalf("%d: got %s, %v; want %s", seq, e.ID, err, id)
		}
	}
	if last, err := l.Last(t.Context()); err != nil || last != events.Sequence(len(acknowledged)) {
		t.Errorf("the log ends at %d, %v; %d events were acknowledged", last, err, len(acknowledged))
	}
}

// companion appends about its own pod: every third one two events at a time, every fourth with guards that
// must fail now and then, every fifth everything twice.
func companion(t *testing.T, l events.Log, w, rounds int, acknowledged func(id string, seq events.Sequence)) {
	var last events.Sequence
	name := fmt.Sprint("w", w)
	for i := range rounds {
		entries := []events.Entry{guarded(name, i, last)}
		if w%3 == 0 {
			entries = append(entries, events.Entry{Event: pod(events.Observed, name, i)})
		}
		for j := range entries {
			entries[j].Event.ID = fmt.Sprintf("%d-%d-%d", w, i, j)
		}
		if w%4 == 1 && i%3 == 1 {
			entries[0].Expect.Last = last + 1000
			seqs, err := l.Append(t.Context(), entries...)
			var c *events.ConflictError
			if !errors.As(err, &c) || c.On != entries[0].Expect.On || c.Actual != last {
				t.Errorf("writer %d round %d: %v, %v; want a conflict with %d", w, i, seqs, err, last)
			}
			continue
		}
		seqs, err := l.Append(t.Context(), entries...)
		if err != nil {
			t.Errorf("writer %d round %d: %v", w, i, err)
			return
		}
		last = seqs[0]
		for j, seq := range seqs {
			acknowledged(entries[j].Event.ID, seq)
		}
		if w%5 != 2 {
			continue
		}
		if again, err := l.Append(t.Context(), entries...); err != nil || again[0] != last {
			t.Errorf("writer %d round %d: retry: %v, %v; want %d", w, i, again, err, last)
		}
	}
}
