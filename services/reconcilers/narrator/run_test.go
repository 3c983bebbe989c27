package narrator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/events/memlog"
	"github.com/orlog-io/orlog/services/loop"
	"github.com/orlog-io/orlog/services/loop/looptest"
)

// performFunc is a Performer.
type performFunc func(context.Context, loop.Effect, events.Cause) (events.Sequence, error)

func (f performFunc) Perform(ctx context.Context, e loop.Effect, why events.Cause) (events.Sequence, error) {
	return f(ctx, e, why)
}

func worldOf(t *testing.T, namespaces ...string) *looptest.World {
	w := looptest.NewWorld(t)
	for _, ns := range namespaces {
		w.Put(loop.Namespaces.Key("", ns), &corev1.Namespace{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Namespace"}})
	}
	return w
}

func appendTo(t *testing.T, w *looptest.World, e events.Event) {
	t.Helper()
	e.Sequence = 0
	if _, err := w.Perform(t.Context(), loop.Effect{Verb: loop.AppendEvent, Key: e.Subject.Key, Entry: &events.Entry{Event: e}}, events.Cause{}); err != nil {
		t.Fatal(err)
	}
}

func optionsFor(w *looptest.World, p loop.Performer) Options {
	return Options{Store: loop.FromProjection(w.Store), Log: w.Log, Performer: func(loop.Identity) (loop.Performer, error) { return p, nil }}
}

// runUntil runs the narrator until n writes have succeeded, then stops it.
func runUntil(t *testing.T, w *looptest.World, n int, p loop.Performer) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	done := 0
	err := Run(ctx, optionsFor(w, performFunc(func(ctx context.Context, e loop.Effect, why events.Cause) (events.Sequence, error) {
		seq, err := p.Perform(ctx, e, why)
		if err == nil {
			if done++; done == n {
				cancel()
			}
		}
		return seq, err
	})))
	if !errors.Is(err, context.Canceled) || done != n {
		t.Fatalf("%d writes, %v", done, err)
	}
}

func eventsIn(w *looptest.World) []*corev1.Event { return eventObjects.List(w.View(), "") }

// TestRunGoesOnWhereItStopped: what happens while the narrator is away is told when it comes back, and what
// was told is not told again.
func TestRunGoesOnWhereItStopped(t *testing.T) {
	w := worldOf(t, "default")
	for i := range 3 {
		appendTo(t, w, creation(0, began, "web", fmt.Sprintf("web-%d", i)))
	}
	runUntil(t, w, 2, w) // stopped before the third was told
	appendTo(t, w, failure(0, began, "p", "0/1 nodes"))
	runUntil(t, w, 2, w)
	appendTo(t, w, failure(0, began, "p", "0/1 nodes"))
	runUntil(t, w, 1, w)
	got := eventsIn(w)
	if len(got) != 4 {
		t.Fatalf("%d Events: %v", len(got), got)
	}
	for _, e := range got {
		if e.Reason == "FailedScheduling" && e.Count != 2 || e.Reason == made && e.Count != 1 {
			t.Errorf("%s: count %d", e.Message, e.Count)
		}
	}
}

// TestRunTellsWhatIsOld: a narrator that was away for a month goes on where it stopped all the same.
func TestRunTellsWhatIsOld(t *testing.T) {
	w := worldOf(t, "default")
	appendTo(t, w, failure(0, began, "p", "0/1 nodes"))
	runUntil(t, w, 1, w)
	told := sequenceOf(eventsIn(w)[0])
	appendTo(t, w, creation(0, began, "web", "web-1"))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	o := optionsFor(w, performFunc(func(ctx context.Context, e loop.Effect, why events.Cause) (events.Sequence, error) {
		defer cancel()
		return w.Perform(ctx, e, why)
	}))
	o.Now = func() time.Time { return time.Now().Add(30 * 24 * time.Hour) }
	n := newNarrator(o)
	if err := n.begin(ctx); err != nil || n.next != told {
		t.Errorf("goes on at %d, %v; want %d", n.next, err, told)
	}
	if err := n.run(ctx); !errors.Is(err, context.Canceled) || len(eventsIn(w)) != 2 {
		t.Errorf("%v, told %v", err, eventsIn(w))
	}
}

// TestRunTellsNothingOfNamespacesThatAreGone: their Events could not be written.
func TestRunTellsNothingOfNamespacesThatAreGone(t *testing.T) {
	w := worldOf(t, "default", "going")
	going := loop.Namespaces.Key("", "going")
	w.Put(going, &corev1.Namespace{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Namespace"},
		ObjectMeta: metav1.ObjectMeta{DeletionTimestamp: &metav1.Time{Time: began}, Finalizers: []string{"kubernetes"}}})
	for _, ns := range []string{"gone", "going", "default"} {
		e := failure(0, began, "p", "0/1 nodes")
		e.Subject.Key.Namespace = ns
		appendTo(t, w, e)
	}
	runUntil(t, w, 1, w)
	if got := eventsIn(w); len(got) != 1 || got[0].Namespace != "default" {
		t.Errorf("told: %v", got)
	}
}

// TestAnEventThatHasExpiredIsMadeAgain: it is updated at first, as the narrator cannot know.
func TestAnEventThatHasExpiredIsMadeAgain(t *testing.T) {
	w := worldOf(t, "default")
	appendTo(t, w, failure(0, began, "p", "0/1 nodes"))
	n := 0
	runUntil(t, w, 3, performFunc(func(ctx context.Context, e loop.Effect, why events.Cause) (events.Sequence, error) {
		if n++; n == 2 {
			w.Remove(e.Key)
		}
		seq, err := w.Perform(ctx, e, why)
		if n == 1 {
			appendTo(t, w, failure(0, began, "p", "0/1 nodes"))
		}
		return seq, err
	}))
	if got := eventsIn(w); len(got) != 1 || got[0].Count != 2 {
		t.Errorf("told: %v", got)
	}
}

// TestPerformWaitsOrGivesUp goes through what a gateway may answer, in virtual time.
func TestPerformWaitsOrGivesUp(t *testing.T) {
	refused := errors.New("forbidden")
	e := eventObjects.Create(&corev1.Event{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "p.1"}})
	for name, c := range map[string]struct {
		answers []error // the last one for ever
		calls   int
	}{
		"away for a while":    {[]error{events.ErrUnavailable, events.ErrUnavailable, nil}, 3},
		"failed but written":  {[]error{events.ErrUnavailable, events.ErrConflict}, 2},
		"invalid":             {[]error{events.ErrInvalid}, 1},
		"refused for a while": {[]error{refused, refused, nil}, 3},
		"refused for good":    {[]error{refused}, attempts},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNarrator(Options{Log: memlog.New()})
				calls := 0
				p := performFunc(func(context.Context, loop.Effect, events.Cause) (events.Sequence, error) {
					answer := c.answers[min(calls, len(c.answers)-1)]
					calls++
					return 0, answer
				})
				if _, err := n.perform(t.Context(), p, e, events.Cause{}); err != nil || calls != c.calls {
					t.Errorf("%d calls, %v; want %d", calls, err, c.calls)
				}
			})
		})
	}
	t.Run("away for long", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			n := newNarrator(Options{Logger: slog.New(slog.DiscardHandler)})
			began := time.Now()
			p := performFunc(func(context.Context, loop.Effect, events.Cause) (events.Sequence, error) {
				if time.Since(began) < 48*time.Hour {
					return 0, events.ErrUnavailable
				}
				return 7, nil
			})
			if seq, err := n.perform(t.Context(), p, e, events.Cause{}); err != nil || seq != 7 {
				t.Errorf("%d, %v after %v", seq, err, time.Since(began))
			}
		})
	})
}

// TestFirstSince finds a place in logs of every length, whatever part of them is old.
func TestFirstSince(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := memlog.New()
		began := time.Now()
		for n := range 9 {
			for at := range n + 2 {
				want := events.Sequence(min(max(at, 1), n+1))
				if got, err := firstSince(t.Context(), log, began.Add(time.Duration(at)*time.Second)); err != nil || got != want {
					t.Errorf("since second %d of %d: %d, %v; want %d", at, n, got, err, want)
				}
			}
			time.Sleep(time.Second)
			if _, err := log.Append(t.Context(), events.Entry{Event: failure(0, began, fmt.Sprint("p", n), "")}); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// TestRunOutlivesALogThatIsAway: a subscription that fails is opened again.
func TestRunOutlivesALogThatIsAway(t *testing.T) {
	w := worldOf(t, "default")
	appendTo(t, w, failure(0, began, "p", "0/1 nodes"))
	flaky := &flakyLog{Log: w.Log}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	o := optionsFor(w, performFunc(func(ctx context.Context, e loop.Effect, why events.Cause) (events.Sequence, error) {
		defer cancel()
		return w.Perform(ctx, e, why)
	}))
	o.Log = flaky
	if err := Run(ctx, o); !errors.Is(err, context.Canceled) || len(eventsIn(w)) != 1 {
		t.Errorf("%v, told %v", err, eventsIn(w))
	}
	if err := Run(t.Context(), Options{}); !errors.Is(err, events.ErrInvalid) {
		t.Errorf("without options: %v", err)
	}
}

type flakyLog struct {
	events.Log
	once sync.Once
}

func (l *flakyLog) Subscribe(ctx context.Context, from events.Sequence, patterns ...string) (sub events.Subscription, err error) {
	l.once.Do(func() { err = events.ErrUnavailable })
	if err != nil {
		return nil, err
	}
	return l.Log.Subscribe(ctx, from, patterns...)
}
