package memlog

import (
	"context"
	"fmt"
	"sync"

	"github.com/orlog-io/orlog/events"
)

type subscription struct {
	log      *Log
	next     int // index into log.events
	patterns []string
	stop     sync.Once
	stopped  chan struct{}
}

// Subscribe implements events.Log.
func (l *Log) Subscribe(ctx context.Context, from events.Sequence, patterns ...string) (events.Subscription, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, fmt.Errorf("subscribe: %w", events.ErrClosed)
	}
	return &subscription{log: l, next: int(max(from, 1) - 1), patterns: patterns, stopped: make(chan struct{})}, nil
}

// Next implements events.Subscription.
func (s *subscription) Next(ctx context.Context) ([]events.Event, error) {
	for {
		batch, changed, err := s.take()
		if err != nil || len(batch) > 0 {
			return batch, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-s.stopped:
		}
	}
}

// take returns what has arrived, and a channel that closes when there is more.
func (s *subscription) take() ([]events.Event, <-chan struct{}, error) {
	select {
	case <-s.stopped:
		return nil, nil, fmt.Errorf("subscription: %w", events.ErrClosed)
	default:
	}
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	if s.log.closed {
		return nil, nil, fmt.Errorf("subscription: %w", events.ErrClosed)
	}
	var batch []events.Event
	for !s.log.held && s.next < len(s.log.events) && len(batch) < events.MaxBatch {
		if e := s.log.events[s.next]; s.wants(e.Subject.String()) {
			batch = append(batch, e)
		}
		s.next++
	}
	return batch, s.log.changed, nil
}

func (s *subscription) wants(subject string) bool {
	for _, p := range s.patterns {
		if events.Matches(p, subject) {
			return true
		}
	}
	return len(s.patterns) == 0
}

// Close implements events.Subscription.
func (s *subscription) Close() error {
	s.stop.Do(func() { close(s.stopped) })
	return nil
}
