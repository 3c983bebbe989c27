package notary

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/orlog-io/orlog/events"
)

const (
	backoff    = 100 * time.Millisecond
	backoffMax = 5 * time.Second
)

// Run adds the log's events to the tree and signs it, until ctx ends (nil, and what had been read is signed)
// or something fails that trying again cannot mend: evidence of tampering, a gap, a closed log, a failing
// disk. While the log is unavailable it tries again, ever more slowly.
func (n *Notary) Run(ctx context.Context, log events.Log) error {
	batches := make(chan []events.Event)
	g, inner := errgroup.WithContext(ctx)
	g.Go(func() error { return n.read(inner, log, events.Sequence(n.tree.size), batches) })
	g.Go(func() error { return n.write(inner, batches) })
	if err := g.Wait(); err != nil {
		return fmt.Errorf("notary in %s: %w", n.o.Dir, err)
	}
	return nil
}

// read passes on all events after a sequence, until ctx ends.
func (n *Notary) read(ctx context.Context, log events.Log, at events.Sequence, to chan<- []events.Event) error {
	wait := backoff
	for {
		before := at
		err := n.readOnce(ctx, log, &at, to)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // it was told to end
		}
		if !errors.Is(err, events.ErrUnavailable) {
			return fmt.Errorf("reading the log after %d: %w", at, err)
		}
		if at > before {
			wait = backoff
		}
		n.o.Logger.Warn("log unavailable, trying again", "dir", n.o.Dir, events.LogSequence, at, "after", wait, events.LogError, err)
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
		wait = min(2*wait, backoffMax)
	}
}

func (n *Notary) readOnce(ctx context.Context, log events.Log, at *events.Sequence, to chan<- []events.Event) (err error) {
	if err := n.CheckLog(ctx, log); err != nil {
		return err
	}
	sub, err := log.Subscribe(ctx, *at+1)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sub.Close()) }()
	for {
		batch, err := sub.Next(ctx)
		if err != nil {
			return err
		}
		select {
		case to <- batch:
			*at = batch[len(batch)-1].Sequence
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// write adds what is read and signs: at the latest Interval after the first event that is not signed yet.
func (n *Notary) write(ctx context.Context, batches <-chan []events.Event) error {
	timer := time.NewTimer(n.o.Interval)
	timer.Stop()
	defer timer.Stop()
	pending := 0
	for {
		select {
		case <-ctx.Done():
			return n.commit()
		case <-timer.C:
			if err := n.commit(); err != nil {
				return err
			}
			pending = 0
		case batch := <-batches:
			for _, e := range batch {
				if err := n.add(e); err != nil {
					return err
				}
			}
			if pending == 0 {
				timer.Reset(n.o.Interval)
			}
			if pending += len(batch); pending >= n.o.MaxPending {
				timer.Reset(0)
			}
		}
	}
}
