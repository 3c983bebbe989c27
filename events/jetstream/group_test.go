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
	type result struct {
		id  string
		seq events.Sequence
	}
	var mu sync.Mutex
	var acknowledged []result
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			var last events.Sequence
			for i := range rounds {
				first := guarded(fmt.Sprint("w", w), i, last)
				first.Event.ID = fmt.Sprintf("%d-%d", w, i)
				entries := []events.Entry{first}
				if w%3 == 0 {
					second := pod(events.Observed, fmt.Sprint("w", w), i)
					second.ID = first.Event.ID + "-observed"
					entries = append(entries, events.Entry{Event: second})
				}
				wrong := w%4 == 1 && i%3 == 1
				if wrong {
					entries[0].Expect.Last = last + 1000
				}
				seqs, err := l.Append(t.Context(), entries...)
				if wrong {
					var c *events.ConflictError
					if !errors.As(err, &c) || c.On != entries[0].Expect.On || c.Actual != last {
						t.Errorf("writer %d round %d: %v, %v; want a conflict with %d", w, i, seqs, err, last)
					}
					continue
				}
				if err != nil {
					t.Errorf("writer %d round %d: %v", w, i, err)
					return
				}
				last = seqs[0]
				if w%5 == 2 {
					if again, err := l.Append(t.Context(), entries...); err != nil || again[0] != last {
						t.Errorf("writer %d round %d: retry: %v, %v; want %d", w, i, again, err, last)
					}
				}
				mu.Lock()
				acknowledged = append(acknowledged, result{first.Event.ID, last})
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	at := map[events.Sequence]string{}
	for _, r := range acknowledged {
		if other, taken := at[r.seq]; taken {
			t.Fatalf("%s and %s were both told %d", other, r.id, r.seq)
		}
		at[r.seq] = r.id
		if e, err := l.Get(t.Context(), r.seq); err != nil || e.ID != r.id {
			t.Fatalf("%d: got %s, %v; want %s", r.seq, e.ID, err, r.id)
		}
	}
	want := len(acknowledged) + writers/3*rounds // the observed ones of every third writer: none of those fails
	for w := 0; w < writers; w += 3 {
		if w%4 == 1 {
			want -= rounds / 3
		}
	}
	if last, err := l.Last(t.Context()); err != nil || last != events.Sequence(want) {
		t.Errorf("the log ends at %d, %v; want %d", last, err, want)
	}
}
