package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/orlog-io/orlog/events"
)

// Pauses between attempts to connect again double from the first to the last.
const (
	firstPause = 250 * time.Millisecond
	lastPause  = 10 * time.Second
	// refusals bounds how often in a row a gateway that answered before may say that this user may not read:
	// while it starts it does not know everybody's permissions yet.
	refusals = 5
)

// follower reads the stream from next on, once or for ever.
type follower struct {
	api    *apiClient
	query  url.Values
	next   events.Sequence
	follow bool
	pause  time.Duration // before the first attempt to connect again
	note   io.Writer     // where breaks are told
}

// run hands every line to each, which returns the line's sequence. Where the stream breaks while following, it
// connects again and goes on behind the last sequence.
func (f *follower) run(ctx context.Context, each func(line []byte) (events.Sequence, error)) error {
	pause, denied := f.pause, 0
	for attempt := 0; ; attempt++ {
		var r reading
		err := f.sameLog(ctx, attempt)
		if err == nil {
			r, err = f.read(ctx, attempt, each)
		}
		switch {
		case !f.follow, ctx.Err() != nil, r.failed:
			return err
		case attempt == 0 && !r.opened:
			return err // no break of a connection, but a mistake, or a cluster that does not run
		}
		if err := f.hopeless(err, &denied); err != nil {
			return err
		}
		if r.opened {
			pause, denied = f.pause, 0
			fmt.Fprintf(f.note, "orlog tail: the stream broke off (%s); connecting again\n", reasonOf(err))
		}
		if err := sleep(ctx, &pause); err != nil {
			return err
		}
	}
}

// reading is how far one connection got.
type reading struct {
	opened bool // the gateway began to answer
	failed bool // a line could not be told: that is no break
}

// read follows one connection until it ends.
func (f *follower) read(ctx context.Context, attempt int, each func(line []byte) (events.Sequence, error)) (r reading, err error) {
	f.query.Set("from", f.next.String())
	f.query.Set("follow", strconv.FormatBool(f.follow))
	body, err := f.api.get(ctx, "/orlog/v1/events", f.query)
	if err != nil {
		return r, err
	}
	defer body.Close()
	r.opened = true
	if attempt > 0 {
		fmt.Fprintf(f.note, "orlog tail: connected again, going on at sequence %d\n", f.next)
	}
	return r, eachLine(body, func(line []byte) error {
		sequence, err := each(line)
		if err != nil {
			r.failed = true
			return err
		}
		f.next = sequence + 1
		return nil
	})
}

// hopeless returns the error where trying again is of no use.
func (f *follower) hopeless(err error, denied *int) error {
	switch code := statusCode(err); code {
	case http.StatusUnauthorized, http.StatusForbidden:
		if *denied++; *denied > refusals {
			return err
		}
	case http.StatusBadRequest, http.StatusNotFound, http.StatusMethodNotAllowed:
		return err
	}
	if other := (*otherLogError)(nil); errors.As(err, &other) {
		return err
	}
	return nil
}

// otherLogError: the log ends before what was read of it.
type otherLogError struct{ last, next events.Sequence }

func (e *otherLogError) Error() string {
	return fmt.Sprintf("the log ends at sequence %d, but %d was read of it before: it was restored from a backup, or another cluster answers now; start orlog tail again", e.last, e.next-1)
}

// sameLog makes sure, after a break, that the log still holds what was read.
func (f *follower) sameLog(ctx context.Context, attempt int) error {
	if attempt == 0 {
		return nil
	}
	p, err := f.api.position(ctx, "")
	if err != nil {
		return err
	}
	if last := events.Sequence(p.Last); f.next > last+1 {
		return &otherLogError{last: last, next: f.next}
	}
	return nil
}

// sleep waits for about a pause, and doubles it.
func sleep(ctx context.Context, pause *time.Duration) error {
	t := time.NewTimer(*pause/2 + rand.N(*pause/2+1))
	defer t.Stop()
	*pause = min(2**pause, lastPause)
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func reasonOf(err error) string {
	if err == nil {
		return "the gateway ended it"
	}
	return err.Error()
}
