package jetstream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/orlog-io/orlog/events"
)

// subscription reads the stream through one feed after another; next is the only state that outlives them.
type subscription struct {
	log      *log
	filters  []string // what the server filters by
	patterns []string // what the caller asked for, where the server cannot filter by that; else nil
	all      bool     // every event is wanted, so every sequence must come

	next      events.Sequence // what is to come: everything before was delivered or is not wanted
	delivered events.Sequence // the newest event that was delivered
	fatal     error

	mu      sync.Mutex
	feed    *feed // nil: to be started
	closing chan struct{}
	once    sync.Once
}

// Subscribe implements events.Log.
func (l *log) Subscribe(ctx context.Context, from events.Sequence, patterns ...string) (events.Subscription, error) {
	if err := l.closed("subscribe"); err != nil {
		return nil, err
	}
	s := &subscription{log: l, next: max(from, 1), all: len(patterns) == 0 && l.gapless, closing: make(chan struct{})}
	s.filters = minimal(patterns)
	if overlap(s.filters) {
		s.filters, s.patterns = nil, patterns
	}
	if err := s.open(ctx); err != nil {
		return nil, fmt.Errorf("subscribe to %s from %d: %w", l.stream, from, err)
	}
	l.mu.Lock()
	l.subscriptions[s] = true
	l.mu.Unlock()
	if err := l.closed("subscribe"); err != nil { // Close may not have seen the subscription
		s.Close()
		return nil, err
	}
	return s, nil
}

// minimal drops patterns that another one includes.
func minimal(patterns []string) []string {
	var out []string
	for i, p := range patterns {
		included := false
		for j, q := range patterns {
			if i != j && events.Matches(q, p) && (p != q || j < i) {
				included = true
			}
		}
		if !included {
			out = append(out, p)
		}
	}
	return out
}

// Next implements events.Subscription.
func (s *subscription) Next(ctx context.Context) ([]events.Event, error) {
	for {
		if err := s.usable(ctx); err != nil {
			return nil, err
		}
		f := s.current()
		if f != nil && f.outdated() {
			s.drop()
			f = nil
		}
		if f == nil {
			if err := s.reopen(ctx); err != nil {
				return nil, err
			}
			continue
		}
		batch, err := s.accept(ctx, f.take(events.MaxBatch))
		if err != nil || len(batch) > 0 {
			return batch, err
		}
		if s.current() == f {
			s.wait(ctx, f)
		}
	}
}

// current is the present feed, nil where there is none.
func (s *subscription) current() *feed {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.feed
}

// usable says why the subscription cannot go on, nil where it can.
func (s *subscription) usable(ctx context.Context) error {
	select {
	case <-s.closing:
		return fmt.Errorf("subscription: %w", events.ErrClosed)
	case <-s.log.closing:
		return fmt.Errorf("subscription: log: %w", events.ErrClosed)
	default:
	}
	if s.fatal != nil {
		return s.fatal
	}
	return ctx.Err()
}

// wait returns when there may be something to do.
func (s *subscription) wait(ctx context.Context, f *feed) {
	t := time.NewTimer(f.patience())
	defer t.Stop()
	select {
	case <-f.arrived:
	case <-f.reconnected:
	case <-t.C:
	case <-ctx.Done():
	case <-s.closing:
	case <-s.log.closing:
	}
}

// open starts a feed at next.
func (s *subscription) open(ctx context.Context) error {
	return s.log.conn.retry(ctx, func(ctx context.Context, _ int) error {
		if err := s.usable(ctx); err != nil {
			return err
		}
		f, err := s.log.startFeed(ctx, s.next, s.filters)
		if err != nil {
			return err
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if isClosed(s.closing) {
			f.stop()
			return fmt.Errorf("subscription: %w", events.ErrClosed)
		}
		s.feed = f
		return nil
	})
}

// missingFor is how many times in a row the server must say that it has no such stream, over some seconds: a cluster
// that is just electing its leaders may say so too.
const missingFor = 8

// reopen starts a feed again, for as long as it takes, after making sure that the log is still the one that
// was read so far.
func (s *subscription) reopen(ctx context.Context) error {
	wait, gone := newBackoff(), 0
	for {
		last, err := s.log.Last(ctx)
		if err == nil && last < s.delivered {
			s.fatal = fmt.Errorf("%w: stream %s now ends at %d, but %d was read from it: its tail is lost. Stop, and restore it from a backup",
				events.ErrGap, s.log.stream, last, s.delivered)
			return s.fatal
		}
		if !errors.Is(err, errStreamNotFound) {
			gone = 0
		} else if gone++; gone >= missingFor {
			s.fatal = fmt.Errorf("%w: stream %s is gone: it was deleted, or the server lost it, after %d was read from it. Stop, and restore it from a backup",
				events.ErrGap, s.log.stream, s.delivered)
			return s.fatal
		}
		if err == nil {
			err = s.open(ctx)
		}
		if err == nil {
			return nil
		}
		if stop := s.usable(ctx); stop != nil {
			return stop
		}
		s.log.conn.report(fmt.Errorf("subscription to %s, at %d: %w", s.log.stream, s.next, err))
		_ = wait.sleep(ctx, s.closing) // usable says the same
	}
}

// drop ends the present feed.
func (s *subscription) drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.feed != nil {
		s.feed.stop()
		s.feed = nil
	}
}

// accept turns messages into events and moves next. What is out of order ends the feed: the events before it
// are delivered, and the next feed begins after them.
func (s *subscription) accept(ctx context.Context, msgs []delivery) ([]events.Event, error) {
	var batch []events.Event
	for _, m := range msgs {
		if m.lost {
			s.drop()
			break
		}
		if m.sequence < s.next {
			continue
		}
		if s.all && m.sequence > s.next {
			if len(batch) > 0 {
				s.drop() // deliver what came before; the next feed shows the gap again
				break
			}
			return nil, s.gap(ctx, m.sequence)
		}
		e := s.log.decode(m.msg.Subject, m.msg.Header, m.msg.Data, m.sequence, m.stored)
		s.next = m.sequence + 1
		if s.wants(e) {
			s.delivered = m.sequence
			batch = append(batch, e)
		}
	}
	return batch, nil
}

func (s *subscription) wants(e events.Event) bool {
	if s.patterns == nil {
		return true
	}
	subject := e.Subject.String()
	return slices.ContainsFunc(s.patterns, func(p string) bool { return events.Matches(p, subject) })
}

// gap looks into a jump in sequences: a message that is there after all was lost on the way, and a new feed
// brings it.
func (s *subscription) gap(ctx context.Context, got events.Sequence) error {
	s.drop()
	_, err := s.log.Get(ctx, s.next)
	if err == nil {
		return nil
	}
	if ignoreNotFound(err) != nil {
		return err
	}
	s.fatal = fmt.Errorf("%w: stream %s continues at %d where %d is due: events are missing. Stop, and restore the stream from a backup",
		events.ErrGap, s.log.stream, got, s.next)
	return s.fatal
}

// Close implements events.Subscription. It may be called while Next waits.
func (s *subscription) Close() error {
	s.once.Do(func() {
		close(s.closing)
		s.drop()
		s.log.mu.Lock()
		delete(s.log.subscriptions, s)
		s.log.mu.Unlock()
	})
	return nil
}
