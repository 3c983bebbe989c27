package tail

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/orlog-io/orlog/events"
)

// What is kept of the newest events at most, for readers that are a little late.
const (
	keepEvents = 512
	keepBytes  = 2 << 20
)

// Log is a log whose subscriptions to all subjects share one as far as they can. It passes events/logtest.
type Log struct {
	events.Log
	feeding sync.WaitGroup

	mu      sync.Mutex
	readers int // open subscriptions to all subjects
	// recent are the newest events, without a gap; next is what comes after them. Both mean something while feed is
	// there.
	recent []events.Event
	next   events.Sequence
	bytes  int
	// grown is closed, and replaced, when there is more, or when the feed has ended.
	grown chan struct{}
	feed  events.Subscription // nil: there is none, and readers have their own
	// failed: the feed ended by itself. Who wants to know why finds out by a subscription of its own.
	failed bool
}

// New wraps a log. Closing it closes the log.
func New(log events.Log) *Log { return &Log{Log: log, grown: make(chan struct{})} }

// Close implements events.Log.
func (l *Log) Close() error {
	err := l.Log.Close() // ends the feed
	l.feeding.Wait()
	return err
}

// Subscribe implements events.Log.
func (l *Log) Subscribe(ctx context.Context, from events.Sequence, patterns ...string) (events.Subscription, error) {
	if len(patterns) > 0 {
		return l.Log.Subscribe(ctx, from, patterns...)
	}
	if err := l.join(ctx); err != nil {
		return nil, err
	}
	r := &reader{log: l, next: max(from, 1), closing: make(chan struct{})}
	if _, _, here := l.after(r.next); here {
		return r, nil
	}
	own, err := l.Log.Subscribe(ctx, r.next)
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	r.own = own
	return r, nil
}

// join counts a reader, and starts the feed for the first one.
func (l *Log) join(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.feed == nil && !l.failed {
		last, err := l.Log.Last(ctx)
		if err != nil {
			return fmt.Errorf("subscribe: %w", err)
		}
		feed, err := l.Log.Subscribe(ctx, last+1)
		if err != nil {
			return err
		}
		l.feed, l.next, l.recent, l.bytes = feed, last+1, nil, 0
		l.feeding.Go(func() { l.follow(feed) })
	}
	l.readers++
	return nil
}

// leave is join's opposite: with the last reader the feed goes.
func (l *Log) leave() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.readers--; l.readers > 0 || l.feed == nil {
		return nil
	}
	feed := l.feed
	l.feed, l.recent = nil, nil
	return feed.Close()
}

// follow takes in what the feed brings until it ends.
func (l *Log) follow(feed events.Subscription) {
	for {
		batch, err := feed.Next(context.Background())
		if !l.take(feed, batch, err) {
			return
		}
	}
}

func (l *Log) take(feed events.Subscription, batch []events.Event, err error) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.feed != feed { // all readers have left
		return false
	}
	defer func() { close(l.grown); l.grown = make(chan struct{}) }()
	if err != nil || batch[0].Sequence != l.next {
		l.feed, l.recent, l.failed = nil, nil, true
		_ = feed.Close() // it has ended
		return false
	}
	l.recent = append(l.recent, batch...)
	l.next = batch[len(batch)-1].Sequence + 1
	for _, e := range batch {
		l.bytes += size(e)
	}
	if len(l.recent) > keepEvents || l.bytes > keepBytes && len(l.recent) > 1 {
		l.recent = slices.Clone(l.recent[len(l.recent)/2:])
		l.bytes = 0
		for _, e := range l.recent {
			l.bytes += size(e)
		}
	}
	return true
}

// size is about what an event takes in memory.
func size(e events.Event) int { return len(e.Object) + len(e.Changes) + 512 }

// after gives the events from a sequence on that are here, or what to wait for. here is false where a reader at that
// sequence needs a subscription of its own.
func (l *Log) after(next events.Sequence) (batch []events.Event, grown <-chan struct{}, here bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	first := l.next - events.Sequence(len(l.recent))
	if l.feed == nil || next < first || next > l.next {
		return nil, nil, false
	}
	from := int(next - first)
	to := min(len(l.recent), from+events.MaxBatch)
	return slices.Clone(l.recent[from:to]), l.grown, true
}

// reader is one reader's place.
type reader struct {
	log  *Log
	next events.Sequence

	mu      sync.Mutex
	own     events.Subscription // nil: it shares the log's
	closing chan struct{}
	once    sync.Once
}

// Next implements events.Subscription.
func (r *reader) Next(ctx context.Context) ([]events.Event, error) {
	for {
		select {
		case <-r.closing:
			return nil, fmt.Errorf("subscription: %w", events.ErrClosed)
		default:
		}
		if own := r.current(); own != nil {
			return r.catchUp(ctx, own)
		}
		batch, grown, here := r.log.after(r.next)
		if len(batch) > 0 {
			r.next = batch[len(batch)-1].Sequence + 1
			return batch, nil
		}
		if !here {
			if err := r.part(ctx); err != nil {
				return nil, err
			}
			continue
		}
		select {
		case <-grown:
		case <-r.closing:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// catchUp reads by the reader's own subscription, and gives that up where the shared one goes on from there.
func (r *reader) catchUp(ctx context.Context, own events.Subscription) ([]events.Event, error) {
	batch, err := own.Next(ctx)
	if err != nil {
		return nil, err
	}
	r.next = batch[len(batch)-1].Sequence + 1
	if _, _, here := r.log.after(r.next); here {
		r.mu.Lock()
		r.own = nil
		r.mu.Unlock()
		_ = own.Close() // nobody reads it any more
	}
	return batch, nil
}

func (r *reader) current() events.Subscription {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.own
}

// part gives the reader a subscription of its own: it is too late for the shared one, or that has ended.
func (r *reader) part(ctx context.Context) error {
	own, err := r.log.Log.Subscribe(ctx, r.next)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	select {
	case <-r.closing:
		return errors.Join(fmt.Errorf("subscription: %w", events.ErrClosed), own.Close())
	default:
	}
	r.own = own
	return nil
}

// Close implements events.Subscription. It may be called while Next waits.
func (r *reader) Close() (err error) {
	r.once.Do(func() {
		close(r.closing)
		err = r.log.leave()
		if own := r.current(); own != nil {
			err = errors.Join(err, own.Close())
		}
	})
	return err
}
