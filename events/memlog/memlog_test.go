package memlog_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/events/logtest"
	"github.com/orlog-io/orlog/events/memlog"
)

func TestSuite(t *testing.T) {
	logtest.Run(t, func(*testing.T) events.Log { return memlog.New() })
}

func event(name, id string) events.Event {
	return events.Event{ID: id, Subject: events.Subject{Class: events.Desired, Key: events.Key{Resource: "pods", Namespace: "default", Name: name}},
		Type: "io.orlog.pod.created", Source: "test", Actor: "test", UID: "u", Time: time.Unix(1, 0).UTC(), Object: []byte(`{}`)}
}

func guarded(name, id string) events.Entry {
	e := event(name, id)
	return events.Entry{Event: e, Expect: events.ExpectObject(e.Subject, 0)}
}

func TestFaultBefore(t *testing.T) {
	l, ctx := memlog.New(), t.Context()
	cause := errors.New("disk on fire")
	l.FailNext(memlog.Fault{Before: cause})
	if _, err := l.Append(ctx, guarded("a", "1")); !errors.Is(err, events.ErrUnavailable) || !errors.Is(err, cause) {
		t.Fatalf("append: %v", err)
	}
	if last, _ := l.Last(ctx); last != 0 {
		t.Fatalf("the refused append is on the log: last %d", last)
	}
	if seqs, err := l.Append(ctx, guarded("a", "1")); err != nil || seqs[0] != 1 {
		t.Fatalf("retry: %v %v", seqs, err)
	}
}

func TestFaultAfter(t *testing.T) {
	l, ctx := memlog.New(), t.Context()
	l.FailNext(memlog.Fault{After: errors.New("connection lost")})
	if _, err := l.Append(ctx, guarded("a", "1"), guarded("b", "2")); !errors.Is(err, events.ErrUnavailable) {
		t.Fatalf("append: %v", err)
	}
	if last, _ := l.Last(ctx); last != 2 {
		t.Fatalf("last is %d, want 2: the append had been persisted", last)
	}
	if seqs, err := l.Append(ctx, guarded("a", "1"), guarded("b", "2")); err != nil || seqs[0] != 1 || seqs[1] != 2 {
		t.Fatalf("retry: %v %v", seqs, err)
	}
	if _, err := l.Append(ctx, guarded("a", "3")); !errors.Is(err, events.ErrConflict) {
		t.Fatalf("a different event: %v, want a conflict", err)
	}
}

func TestFaultDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, start := memlog.New(), time.Now()
		l.Inject(func([]events.Entry) memlog.Fault { return memlog.Fault{Delay: 3 * time.Second} })
		if _, err := l.Append(t.Context(), guarded("a", "1")); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(start); d != 3*time.Second {
			t.Errorf("append took %v, want 3s", d)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := l.Append(ctx, guarded("b", "2")); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, events.ErrUnavailable) {
			t.Errorf("append beyond its deadline: %v", err)
		}
	})
}

func TestHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, ctx := memlog.New(), t.Context()
		sub, err := l.Subscribe(ctx, 1)
		if err != nil {
			t.Fatal(err)
		}
		l.Hold()
		if _, err := l.Append(ctx, guarded("a", "1")); err != nil {
			t.Fatal(err)
		}
		got := make(chan int)
		go func() {
			batch, err := sub.Next(ctx)
			if err != nil {
				t.Error(err)
			}
			got <- len(batch)
		}()
		synctest.Wait()
		select {
		case <-got:
			t.Error("a held event was delivered")
		default:
		}
		l.Release()
		if n := <-got; n != 1 {
			t.Errorf("%d events after release, want 1", n)
		}
	})
}

// TestRetriedAppends: whatever fails, before or after the append, a writer that retries with the same IDs until it
// is told that it worked has each event there once, at the sequence that it was told.
func TestRetriedAppends(t *testing.T) {
	for seed := range uint64(50) {
		random := rand.New(rand.NewPCG(seed, 0))
		l, lost := memlog.New(), errors.New("lost")
		l.Inject(func([]events.Entry) memlog.Fault {
			switch random.IntN(3) {
			case 0:
				return memlog.Fault{Before: lost}
			case 1:
				return memlog.Fault{After: lost}
			}
			return memlog.Fault{}
		})
		told := map[string]events.Sequence{}
		var last events.Sequence
		for i := range 30 {
			e := events.Event{Subject: events.Subject{Class: events.Desired, Key: events.Key{Resource: "pods", Namespace: "default", Name: "a"}},
				Type: "io.orlog.pod.updated", Source: "test", Actor: "test", UID: "u", Time: time.Unix(1, 0), Object: []byte(`{}`)}
			entries := make([]events.Entry, 1+random.IntN(3))
			for j := range entries {
				e.ID = fmt.Sprint(i, "-", j)
				entries[j].Event = e
			}
			if random.IntN(2) == 0 {
				entries[0].Expect = events.ExpectClass(e.Subject, last)
			}
			seqs, err := l.Append(t.Context(), entries...)
			for errors.Is(err, events.ErrUnavailable) {
				seqs, err = l.Append(t.Context(), entries...)
			}
			if err != nil {
				t.Fatal(err)
			}
			for j, e := range entries {
				told[e.Event.ID], last = seqs[j], seqs[j]
			}
		}
		if got, err := l.Last(t.Context()); err != nil || got != events.Sequence(len(told)) {
			t.Fatalf("seed %d: %d events on the log, %v; %d were acknowledged", seed, got, err, len(told))
		}
		for id, seq := range told {
			if e, err := l.Get(t.Context(), seq); err != nil || e.ID != id {
				t.Fatalf("seed %d: at %d is %s, %v; its writer was told that %s is", seed, seq, e.ID, err, id)
			}
		}
	}
}
