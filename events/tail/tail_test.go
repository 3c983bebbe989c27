package tail

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/events/logtest"
	"github.com/orlog-io/orlog/events/memlog"
)

func TestLog(t *testing.T) {
	logtest.Run(t, func(*testing.T) events.Log { return New(memlog.New()) })
}

// counted counts a log's open subscriptions, and can make them fail.
type counted struct {
	events.Log
	mu          sync.Mutex
	open, total int
	broken      error
}

type countedSubscription struct {
	events.Subscription
	of   *counted
	once sync.Once
}

func (c *counted) Subscribe(ctx context.Context, from events.Sequence, patterns ...string) (events.Subscription, error) {
	sub, err := c.Log.Subscribe(ctx, from, patterns...)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open++
	c.total++
	return &countedSubscription{Subscription: sub, of: c}, err
}

func (s *countedSubscription) Next(ctx context.Context) ([]events.Event, error) {
	if err := s.of.failure(); err != nil {
		return nil, err
	}
	batch, err := s.Subscription.Next(ctx)
	if err := s.of.failure(); err != nil { // it broke while this one waited
		return nil, err
	}
	return batch, err
}

func (c *counted) failure() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.broken
}

func (s *countedSubscription) Close() error {
	s.once.Do(func() {
		s.of.mu.Lock()
		defer s.of.mu.Unlock()
		s.of.open--
	})
	return s.Subscription.Close()
}

func (c *counted) counts() (open, total int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.open, c.total
}

// write appends n events.
func write(t *testing.T, log events.Log, n int) {
	t.Helper()
	for i := range n {
		e := events.Event{Subject: events.Subject{Class: events.Desired, Key: events.Key{Resource: "pods", Namespace: "a", Name: fmt.Sprint("p", i)}},
			Type: "io.orlog.pod.updated", Source: "test", Actor: "test", UID: "u", Time: time.Now(), Object: []byte(`{}`)}
		if _, err := log.Append(t.Context(), events.Entry{Event: e}); err != nil {
			t.Fatal(err)
		}
	}
}

// read reads up to a sequence and checks that nothing is missing.
func read(t *testing.T, sub events.Subscription, from, to events.Sequence) {
	t.Helper()
	for next := from; next <= to; {
		batch, err := sub.Next(t.Context())
		if err != nil {
			t.Fatalf("at %d: %v", next, err)
		}
		for _, e := range batch {
			if e.Sequence != next {
				t.Fatalf("got %d, want %d", e.Sequence, next)
			}
			next++
		}
	}
}

func subscribe(t *testing.T, log events.Log, from events.Sequence) events.Subscription {
	t.Helper()
	sub, err := log.Subscribe(t.Context(), from)
	if err != nil {
		t.Fatal(err)
	}
	return sub
}

// TestSharing: readers that are at the end share one subscription, wherever they began; with the last it ends.
func TestSharing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		below := &counted{Log: memlog.New()}
		log := New(below)
		write(t, log, 10)
		var readers []events.Subscription
		for from := range 4 {
			sub := subscribe(t, log, events.Sequence(3*from+1))
			read(t, sub, events.Sequence(3*from+1), 10)
			readers = append(readers, sub)
		}
		if open, total := below.counts(); open != 1 || total != 5 {
			t.Errorf("%d subscriptions are open of %d, want the shared one, and four that were the readers' own", open, total)
		}
		write(t, log, 100)
		for _, sub := range readers {
			read(t, sub, 11, 110)
		}
		for _, sub := range readers {
			if err := sub.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if open, total := below.counts(); open != 0 || total != 5 {
			t.Errorf("%d subscriptions are open of %d after the last reader left", open, total)
		}
		again := subscribe(t, log, 111)
		write(t, log, 1)
		read(t, again, 111, 111)
		if err := log.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := again.Next(t.Context()); !errors.Is(err, events.ErrClosed) {
			t.Errorf("after the end: %v", err)
		}
	})
}

// TestLateReader: what the shared subscription does not keep any more, a late reader gets by one of its own.
func TestLateReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		below := &counted{Log: memlog.New()}
		log := New(below)
		defer log.Close()
		prompt, late := subscribe(t, log, 1), subscribe(t, log, 1)
		for n := range events.Sequence(6) {
			write(t, log, keepEvents/2)
			read(t, prompt, n*keepEvents/2+1, (n+1)*keepEvents/2)
		}
		if _, total := below.counts(); total != 1 {
			t.Fatalf("%d subscriptions before anybody was late", total)
		}
		read(t, late, 1, 3*keepEvents)
		if open, total := below.counts(); open != 1 || total != 2 {
			t.Errorf("%d subscriptions are open of %d", open, total)
		}
	})
}

// TestFailing: where the shared subscription fails, each reader finds out for itself why.
func TestFailing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		below := &counted{Log: memlog.New()}
		log := New(below)
		defer log.Close()
		a, b := subscribe(t, log, 1), subscribe(t, log, 1)
		write(t, log, 1)
		read(t, a, 1, 1)
		read(t, b, 1, 1)
		below.mu.Lock()
		below.broken = events.ErrGap
		below.mu.Unlock()
		write(t, below.Log, 1)
		for _, sub := range []events.Subscription{a, b} {
			if _, err := sub.Next(t.Context()); !errors.Is(err, events.ErrGap) {
				t.Errorf("got %v", err)
			}
		}
		below.mu.Lock()
		below.broken = nil
		below.mu.Unlock()
		read(t, a, 2, 2)
		c := subscribe(t, log, 2)
		read(t, c, 2, 2)
	})
}
