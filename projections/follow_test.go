package projections

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/events/memlog"
)

// fakeLog holds fixed events; Subscribe and Next fail as told.
type fakeLog struct {
	events.Log
	events    []events.Event
	batch     int     // how many events Next returns; 0: one
	subscribe []error // what the next calls of Subscribe return; then it works
	next      error   // what Next returns at the end of the events; nil: it waits
}

func (l *fakeLog) Last(context.Context) (events.Sequence, error) {
	return l.events[len(l.events)-1].Sequence, nil
}

func (l *fakeLog) Get(_ context.Context, seq events.Sequence) (events.Event, error) {
	for _, e := range l.events {
		if e.Sequence == seq {
			return e, nil
		}
	}
	return events.Event{}, fmt.Errorf("event %d: %w", seq, events.ErrNotFound)
}

func (l *fakeLog) Subscribe(_ context.Context, from events.Sequence, _ ...string) (events.Subscription, error) {
	if len(l.subscribe) > 0 {
		err := l.subscribe[0]
		l.subscribe = l.subscribe[1:]
		return nil, err
	}
	return &fakeSubscription{log: l, from: from}, nil
}

type fakeSubscription struct {
	log  *fakeLog
	from events.Sequence
}

func (s *fakeSubscription) Next(ctx context.Context) ([]events.Event, error) {
	for i, e := range s.log.events {
		if e.Sequence >= s.from {
			batch := s.log.events[i:min(i+max(s.log.batch, 1), len(s.log.events))]
			s.from = batch[len(batch)-1].Sequence + 1
			return batch, nil
		}
	}
	if s.log.next != nil {
		return nil, s.log.next
	}
	<-ctx.Done()
	return nil, ctx.Err()
}

func (s *fakeSubscription) Close() error { return nil }

func TestFollow(t *testing.T) {
	log := memlog.New()
	defer log.Close()
	dir := t.TempDir()
	h := newHistory(31)
	for round := range 3 { // each round opens the store anew and goes on where it was
		s := open(t, dir, Options{History: true})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.Follow(ctx, log) }()
		for _, e := range h.events(50) {
			e.ID = ""
			if _, err := log.Append(ctx, events.Entry{Event: e}); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.WaitFor(ctx, events.Sequence(50*(round+1))); err != nil {
			t.Fatal(err)
		}
		cancel()
		if err := <-done; err != nil {
			t.Fatalf("follow, ended: %v", err)
		}
		if err := s.CheckLog(t.Context(), log); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestFollowRetriesWhileUnavailable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &fakeLog{events: newHistory(32).events(10)}
		for range 8 {
			log.subscribe = append(log.subscribe, fmt.Errorf("no answer: %w", events.ErrUnavailable))
		}
		s := open(t, "store", Options{InMemory: true})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		began := time.Now()
		go func() { done <- s.Follow(ctx, log) }()
		if err := s.WaitFor(t.Context(), 10); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took < 10*time.Second || took > 20*time.Second {
			t.Errorf("eight retries took %v", took)
		}
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	})
}

func TestFollowStopsAtGap(t *testing.T) {
	for _, fatal := range []error{events.ErrGap, events.ErrClosed, errors.New("something else")} {
		for _, batch := range []int{1, many, many + 1} {
			const n = 2*many + 10
			s := open(t, "store", Options{InMemory: true})
			err := s.Follow(t.Context(), &fakeLog{events: newHistory(33).events(n), batch: batch, next: fmt.Errorf("at %d: %w", n+1, fatal)})
			if !errors.Is(err, fatal) || s.Position() != n {
				t.Errorf("%v, %d at a time: got %v at %d", fatal, batch, err, s.Position())
			}
		}
	}
}

// What is read ahead does not keep Follow where the store takes no more.
func TestFollowEndsWhileReadingAhead(t *testing.T) {
	all := newHistory(35).events(many)
	all[many-1].Sequence = all[many-2].Sequence // no batch of this can be applied
	s := open(t, "store", Options{InMemory: true})
	err := s.Follow(t.Context(), &fakeLog{events: all, batch: many})
	if !errors.Is(err, events.ErrInvalid) || s.Position() != 0 {
		t.Errorf("got %v at %d", err, s.Position())
	}
}

func TestCheckLog(t *testing.T) {
	all := newHistory(34).events(20)
	s := open(t, "store", Options{InMemory: true})
	if err := s.CheckLog(t.Context(), &fakeLog{events: all}); err != nil {
		t.Errorf("a new store: %v", err)
	}
	apply(t, s, all[:15])
	if err := s.CheckLog(t.Context(), &fakeLog{events: all}); err != nil {
		t.Errorf("a store behind its log: %v", err)
	}
	if err := s.CheckLog(t.Context(), &fakeLog{events: all[:15]}); err != nil {
		t.Errorf("a store at the end of its log: %v", err)
	}
	if err := s.CheckLog(t.Context(), &fakeLog{events: all[:14]}); !errors.Is(err, events.ErrGap) || !strings.Contains(err.Error(), "the log ends at 14") {
		t.Errorf("a log that lost its tail: %v", err)
	}
	anew := append(append([]events.Event{}, all[:14]...), newHistory(35).events(20)[14:]...)
	anew[14].ID = "another"
	if err := s.CheckLog(t.Context(), &fakeLog{events: anew}); !errors.Is(err, events.ErrGap) || !strings.Contains(err.Error(), "another") {
		t.Errorf("a log that used sequences twice: %v", err)
	}
	if err := s.CheckLog(t.Context(), &fakeLog{events: append(append([]events.Event{}, all[:14]...), all[15:]...)}); err != nil {
		t.Errorf("a volatile log, in which the event was superseded: %v", err)
	}
}
