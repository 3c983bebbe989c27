package jetstream

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/orlog-io/orlog/events"
)

// attemptTimeout bounds one request to the server. A slow disk may hold an append for a while.
const attemptTimeout = 4 * time.Second

// transientError marks a failure that the same request may not meet again.
type transientError struct{ cause error }

func (e *transientError) Error() string { return e.cause.Error() }
func (e *transientError) Unwrap() error { return e.cause }

func transient(err error) error { return &transientError{cause: err} }

// backoff is a wait that doubles from 5 ms to 500 ms, with jitter.
type backoff struct{ next time.Duration }

func newBackoff() *backoff { return &backoff{next: 5 * time.Millisecond} }

// sleep waits, cut short by early, or returns ctx's error.
func (b *backoff) sleep(ctx context.Context, early <-chan struct{}) error {
	d := b.next/2 + rand.N(b.next)
	b.next = min(2*b.next, 500*time.Millisecond)
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-early:
	case <-ctx.Done():
	}
	return ctx.Err()
}

// retry calls attempt until it gives something other than a transient error, ctx ends or patience does. The
// number of the attempt, from 1, comes in.
func (c *Conn) retry(ctx context.Context, attempt func(ctx context.Context, n int) error) error {
	if _, bounded := ctx.Deadline(); !bounded {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.opts.Patience)
		defer cancel()
	}
	wait := newBackoff()
	for n := 1; ; n++ {
		err := attempt(ctx, n)
		var t *transientError
		if !errors.As(err, &t) {
			return err
		}
		_, reconnected := c.connection()
		if stop := wait.sleep(ctx, reconnected); stop != nil {
			return fmt.Errorf("%w: %w, after %d attempts: %w", events.ErrUnavailable, stop, n, t.cause)
		}
	}
}
