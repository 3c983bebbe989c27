package projections

import (
	"context"

	"github.com/orlog-io/orlog/events"
)

// many is how many events in one batch mean that the store is far behind: then the next batch is read, which takes
// about as long as folding one, while this one is folded. A batch of few is folded where it was read.
const many = 64

// reader is a subscription that may be read one batch ahead.
type reader struct {
	sub   events.Subscription
	ahead chan reading // will hold what comes next; nil where nothing is read ahead
	end   context.CancelFunc
}

type reading struct {
	batch []events.Event
	err   error
}

// next returns the next batch.
func (r *reader) next(ctx context.Context) ([]events.Event, error) {
	var got reading
	if r.ahead != nil {
		got = r.await()
	} else {
		got.batch, got.err = r.sub.Next(ctx)
	}
	if len(got.batch) >= many {
		r.readAhead(ctx)
	}
	return got.batch, got.err
}

func (r *reader) readAhead(ctx context.Context) {
	ctx, r.end = context.WithCancel(ctx)
	ahead := make(chan reading, 1)
	r.ahead = ahead
	go func() { // await takes what it leaves
		batch, err := r.sub.Next(ctx)
		ahead <- reading{batch, err}
	}()
}

// await returns what is read ahead.
func (r *reader) await() reading {
	got := <-r.ahead
	r.end()
	r.ahead, r.end = nil, nil
	return got
}

// close ends the subscription. What was read ahead is forgotten: it comes again to who asks for it.
func (r *reader) close() error {
	if r.ahead != nil {
		r.end()
		r.await()
	}
	return r.sub.Close()
}
