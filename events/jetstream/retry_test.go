package jetstream_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/events/jetstream"
)

// once checks that the log holds each of the IDs once, and nothing else.
func once(t *testing.T, l events.Log, ids map[string]events.Sequence) {
	t.Helper()
	last, err := l.Last(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]events.Sequence{}
	for _, e := range readEvents(t, l, last) {
		if first := seen[e.ID]; first != 0 {
			t.Errorf("%s is on the log twice, at %d and %d", e.ID, first, e.Sequence)
		}
		seen[e.ID] = e.Sequence
		if at, asked := ids[e.ID]; !asked || at != e.Sequence {
			t.Errorf("%s is on the log at %d; its writer was told %d", e.ID, e.Sequence, at)
		}
	}
	if len(seen) != len(ids) {
		t.Errorf("%d events on the log, %d were acknowledged", len(seen), len(ids))
	}
}

// TestRetriedAppends: writers on connections that break again and again, each with patience for a few
// milliseconds only, retry with the same IDs until they are told that it worked. Guarded or not, alone or in a
// batch, each event is there once, at the sequence that was told. Many retries come after the server has
// forgotten the message ID.
func TestRetriedAppends(t *testing.T) {
	for seed := range uint64(3) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel() // most of it is waiting
			retriedAppends(t, seed)
		})
	}
}

func retriedAppends(t *testing.T, seed uint64) {
	const forgets = 2 * time.Second // much longer than an append may be on its way
	server := start(t)
	p := startProxy(t, server.URL())
	l := open(t, connect(t, jetstream.Options{URL: p.url()}.WithDedupe(forgets)))
	const writers, appends = 6, 12
	var mu sync.Mutex
	ids := map[string]events.Sequence{}
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			random := rand.New(rand.NewPCG(seed, uint64(w)))
			var last events.Sequence
			for i := range appends {
				name := fmt.Sprint("w", w)
				entries := []events.Entry{unguarded(name, i)}
				if w%3 == 1 {
					entries = []events.Entry{guarded(name, i, last)}
				}
				if w%3 == 2 {
					entries = append(entries, events.Entry{Event: pod(events.Observed, name, i)})
				}
				for j := range entries {
					entries[j].Event.ID, entries[j].Event.Time = fmt.Sprint(name, "-", i, "-", j), time.Now()
				}
				var pause time.Duration
				if i%5 == 4 {
					pause = forgets + forgets/10
				}
				seqs := insist(t, l, random, p, pause, entries)
				if seqs == nil {
					return
				}
				last = seqs[0]
				mu.Lock()
				for j, e := range entries {
					ids[e.Event.ID] = seqs[j]
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	once(t, l, ids)
}

// insist appends until it is told that it worked, breaking connections on the way, and pausing once.
func insist(t *testing.T, l events.Log, random *rand.Rand, p *proxy, pause time.Duration, entries []events.Entry) []events.Sequence {
	for try := 0; ; try++ {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		if try < 4 { // gives up soon, often between the append and its answer
			ctx, cancel = context.WithTimeout(t.Context(), time.Duration(random.IntN(4000))*time.Microsecond)
			if random.IntN(6) == 0 {
				time.AfterFunc(time.Duration(random.IntN(2000))*time.Microsecond, p.cut)
			}
		}
		seqs, err := l.Append(ctx, entries...)
		cancel()
		if err == nil {
			if again, err := l.Append(t.Context(), entries...); err != nil || fmt.Sprint(again) != fmt.Sprint(seqs) {
				t.Errorf("told %v, then %v, %v", seqs, again, err)
			}
			return seqs
		}
		if !errors.Is(err, events.ErrUnavailable) {
			t.Errorf("append of %s: %v", entries[0].Event.ID, err)
			return nil
		}
		if try == 1 {
			time.Sleep(pause) // real time: it is the server's memory
		}
	}
}

// TestForgottenAppend: the one case that neither the server's memory nor a guard covers, alone.
func TestForgottenAppend(t *testing.T) {
	const forgets = 100 * time.Millisecond
	l := open(t, connect(t, jetstream.Options{URL: start(t).URL()}.WithDedupe(forgets)))
	e := unguarded("a", 1)
	e.Event.ID, e.Event.Time = "mine", time.Now()
	first := mustAppend(t, l, e)
	mustAppend(t, l, unguarded("a", 2), unguarded("a", 3))
	time.Sleep(5 * forgets)
	mustAppend(t, l, unguarded("a", 4))
	if again := mustAppend(t, l, e); again[0] != first[0] {
		t.Errorf("told %d, then %d", first[0], again[0])
	}
	if last, err := l.Last(t.Context()); err != nil || last != 4 {
		t.Errorf("the log ends at %d, %v; want 4", last, err)
	}
	batch := []events.Entry{unguarded("b", 1), {Event: pod(events.Observed, "b", 1)}}
	batch[0].Event.ID, batch[1].Event.ID = "mine-1", "mine-2"
	batch[0].Event.Time, batch[1].Event.Time = time.Now(), time.Now()
	first = mustAppend(t, l, batch...)
	time.Sleep(5 * forgets)
	if again := mustAppend(t, l, batch...); fmt.Sprint(again) != fmt.Sprint(first) {
		t.Errorf("told %v, then %v", first, again)
	}
}
