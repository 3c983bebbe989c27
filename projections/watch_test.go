package projections

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/orlog-io/orlog/events"
)

// mustSee reads a watcher until it has returned as many changes as are wanted.
func mustSee(t testing.TB, what string, w *Watcher, want []Change) {
	t.Helper()
	var got []Change
	for len(got) < len(want) {
		part, err := w.Next(t.Context())
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		got = append(got, part...)
	}
	mustEqual(t, what, want, got)
}

func TestWatchFromEverySequence(t *testing.T) {
	m := model{newHistory(7).events(120)}
	for _, mode := range []string{"ring", "disk"} {
		t.Run(mode, func(t *testing.T) {
			dir := t.TempDir()
			o := Options{History: true}
			s := open(t, dir, o)
			apply(t, s, m.log)
			if mode == "disk" { // a store just opened has an empty ring
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				s = open(t, dir, o)
			}
			for from := range events.Sequence(len(m.log) + 1) {
				for _, sel := range append(testSelectors, Selector{Ignored: true}, Selector{Resource: "pods", Ignored: true}) {
					w := s.Watch(from, sel)
					mustSee(t, fmt.Sprintf("watch %+v from %d", sel, from), w, m.changes(from, sel))
					w.Wake()
					if got, err := w.Next(t.Context()); err != nil || len(got) != 0 {
						t.Fatalf("after the last change: %v %v", got, err)
					}
					if w.Position() != s.Position() {
						t.Fatalf("position %d, the store's is %d", w.Position(), s.Position())
					}
					w.Close()
				}
			}
			if len(s.feed.watchers) != 0 {
				t.Fatalf("closed watchers are still known: %v", s.feed.watchers)
			}
		})
	}
}

func TestWatchLive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := model{newHistory(3).events(300)}
		s := open(t, "store", Options{InMemory: true})
		var wg sync.WaitGroup
		for _, sel := range testSelectors {
			w := s.Watch(0, sel)
			wg.Go(func() {
				mustEqual(t, fmt.Sprintf("%+v", sel), m.changes(0, sel), drainCount(t, w, len(m.changes(0, sel))))
			})
		}
		apply(t, s, m.log)
		wg.Wait()
	})
}

func drainCount(t testing.TB, w *Watcher, n int) (out []Change) {
	defer w.Close()
	for len(out) < n {
		got, err := w.Next(t.Context())
		if err != nil {
			t.Error(err)
			return out
		}
		out = append(out, got...)
	}
	return out
}

// Watchers that begin, lag and stop while events are applied lose nothing and see nothing twice.
func TestWatchWhileApplying(t *testing.T) {
	m := model{newHistory(11).events(3000)}
	want := m.changes(0, Selector{})
	s := open(t, "store", Options{History: true, InMemory: true})
	s.feed.limits(32, 1<<20, 4<<10) // so that watchers fall out of the ring and out of their queues
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			var got []Change
			at := events.Sequence(0)
			for len(got) < len(want) {
				w := s.Watch(at, Selector{}) // each reader begins anew now and then
				for range 1 + i*3 {
					part, err := w.Next(t.Context())
					if err != nil {
						t.Error(err)
						return
					}
					got = append(got, part...)
					if at = w.Position(); len(got) >= len(want) {
						break
					}
				}
				w.Close()
			}
			mustEqual(t, "changes", want, got)
		})
	}
	wg.Go(func() {
		for s.Position() < events.Sequence(len(m.log)) {
			v := s.Now()
			if _, err := v.Count(Selector{}); err != nil {
				t.Error(err)
			}
			v.Close()
		}
	})
	apply(t, s, m.log)
	wg.Wait()
}

func TestWatchWithoutHistory(t *testing.T) {
	m := model{newHistory(5).events(200)}
	dir := t.TempDir()
	s := open(t, dir, Options{})
	apply(t, s, m.log[:100])
	w := s.Watch(40, Selector{}) // the ring reaches back
	mustSee(t, "from the ring", w, model{m.log[:100]}.changes(40, Selector{}))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Next(t.Context()); !errors.Is(err, events.ErrClosed) {
		t.Fatalf("next on a closed store: %v", err)
	}
	s = open(t, dir, Options{})
	w = s.Watch(40, Selector{})
	if _, err := w.Next(t.Context()); !errors.Is(err, ErrTooOld) {
		t.Fatalf("watch from the past: %v", err)
	}
	s.feed.limits(32, 1<<20, 4<<10)
	w = s.Watch(100, Selector{})
	apply(t, s, m.log[100:])
	if _, err := w.Next(t.Context()); !errors.Is(err, ErrTooOld) {
		t.Fatalf("a reader that never reads: %v", err)
	}
	if len(s.feed.watchers) != 0 {
		t.Fatal("a watcher that fell behind is still known")
	}
}

func TestWatchFromTheFuture(t *testing.T) {
	m := model{newHistory(5).events(50)}
	s := open(t, "store", Options{InMemory: true, History: true})
	apply(t, s, m.log[:10])
	w := s.Watch(30, Selector{Ignored: true})
	defer w.Close()
	apply(t, s, m.log[10:])
	mustSee(t, "changes", w, m.changes(30, Selector{Ignored: true}))
}

func TestWatchEnds(t *testing.T) {
	s := open(t, "store", Options{InMemory: true})
	w := s.Watch(0, Selector{Ignored: true})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.Next(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("cancelled: %v", err)
	}
	apply(t, s, newHistory(1).events(1))
	if got, err := w.Next(t.Context()); err != nil || len(got) != 1 {
		t.Fatalf("after a cancelled Next: %v %v", got, err)
	}
	w.Close()
	if _, err := w.Next(t.Context()); !errors.Is(err, events.ErrClosed) {
		t.Fatalf("closed: %v", err)
	}
}
