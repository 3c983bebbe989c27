package jetstream

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/nats-io/nats.go"

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

// sleep waits, or returns ctx's error.
func (b *backoff) sleep(ctx context.Context) error {
	d := b.next/2 + rand.N(b.next)
	b.next = min(2*b.next, 500*time.Millisecond)
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
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
		if ctx.Err() == nil {
			_ = wait.sleep(ctx) // the context is looked at next
		}
		if ctx.Err() != nil {
			return fmt.Errorf("%w: %w, after %d attempts: %w", events.ErrUnavailable, ctx.Err(), n, t.cause)
		}
	}
}

// request sends one message and waits for the answer. Its errors are transient unless the connection was
// closed for good.
func (c *Conn) request(ctx context.Context, m *nats.Msg) (*nats.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	answer, err := c.nc.RequestMsgWithContext(ctx, m)
	return answer, classify(err)
}

func classify(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, nats.ErrConnectionClosed):
		return fmt.Errorf("%w: %w", events.ErrClosed, err)
	case errors.Is(err, nats.ErrMaxPayload):
		return fmt.Errorf("%w: %w: the server's max_payload must be at least %d bytes", events.ErrInvalid, err, maxPayload)
	case errors.Is(err, nats.ErrBadSubject), errors.Is(err, nats.ErrBadHeaderMsg):
		return fmt.Errorf("%w: %w", events.ErrInvalid, err)
	}
	return transient(err)
}
