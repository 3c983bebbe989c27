package projections

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/orlog-io/orlog/events"
)

const (
	followBackoff    = 100 * time.Millisecond
	followBackoffMax = 5 * time.Second
)

// Follow folds the log into the store from its position on, until ctx ends (nil) or something fails that
// trying again cannot mend: a gap in the log, a closed log or store, a failing disk. While the log is
// unavailable it tries again, ever more slowly.
func (s *Store) Follow(ctx context.Context, log events.Log) error {
	wait := followBackoff
	for {
		before := s.Position()
		err := s.follow(ctx, log)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // it was told to end
		}
		if !errors.Is(err, events.ErrUnavailable) {
			return fmt.Errorf("projection in %s: following the log from %d: %w", s.dir, s.Position()+1, err)
		}
		if s.Position() > before {
			wait = followBackoff
		}
		s.o.Logger.Warn("log unavailable, trying again", "dir", s.dir, events.LogSequence, s.Position(), "after", wait, events.LogError, err)
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
		wait = min(2*wait, followBackoffMax)
	}
}

func (s *Store) follow(ctx context.Context, log events.Log) (err error) {
	sub, err := log.Subscribe(ctx, s.Position()+1, s.o.Patterns...)
	if err != nil {
		return err
	}
	r := &reader{sub: sub}
	defer func() { err = errors.Join(err, r.close()) }()
	for {
		batch, err := r.next(ctx)
		if err != nil {
			return err
		}
		if err := s.Apply(batch); err != nil {
			return err
		}
	}
}

// End is the newest sequence on the log that concerns the store, which is its position once it has caught up; 0 where
// there is none. With Options.Patterns the log may go on after that.
func (s *Store) End(ctx context.Context, log events.Log) (events.Sequence, error) {
	if len(s.o.Patterns) == 0 {
		return log.Last(ctx)
	}
	var end events.Sequence
	for _, pattern := range s.o.Patterns {
		e, err := log.LastOn(ctx, pattern)
		if errors.Is(err, events.ErrNotFound) {
			continue
		}
		if err != nil {
			return 0, err
		}
		end = max(end, e.Sequence)
	}
	return end, nil
}
