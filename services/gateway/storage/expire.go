package storage

import (
	"container/heap"
	"context"
	"errors"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/projections"
)

// The log knows no time to live: an object that was written with one is deleted by whoever wrote it, unless
// it has been written again meanwhile. What an earlier process left behind is found at the first write with
// a time to live.

// How long a deletion that failed waits; after each further failure twice as long. There is no last try: an object that
// has outlived its time does no harm, but must not stay for ever.
const (
	expiryRetry    = 5 * time.Second
	expiryRetryMax = 5 * time.Minute
)

// expiry holds the deadlines of a resource's objects.
type expiry struct {
	mu    sync.Mutex
	due   deadlines
	begun bool
	wake  chan struct{}
}

type deadline struct {
	key  events.Key
	seq  events.Sequence // the revision that is to end
	when time.Time
	wait time.Duration // the last time it failed
}

// expire makes an object end ttl seconds from now (0: never), if it then still has the revision seq.
func (s *store) expire(k events.Key, seq events.Sequence, ttl uint64) {
	if ttl == 0 {
		return
	}
	life := time.Duration(ttl) * time.Second
	x := &s.expiry
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.begun {
		x.begun, x.wake = true, make(chan struct{}, 1)
		s.start(func(ctx context.Context) {
			s.sweep(ctx, life)
			s.runExpiry(ctx)
		})
	}
	x.push(deadline{key: k, seq: seq, when: time.Now().Add(life)})
}

// push needs x.mu.
func (x *expiry) push(d deadline) {
	heap.Push(&x.due, d)
	if x.due[0] == d {
		select {
		case x.wake <- struct{}{}:
		default:
		}
	}
}

// next takes the first deadline that is over, or says how long that takes.
func (x *expiry) next(now time.Time) (d deadline, over bool, in time.Duration) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(x.due) == 0 {
		return deadline{}, false, time.Hour
	}
	if in = x.due[0].when.Sub(now); in > 0 {
		return deadline{}, false, in
	}
	return heap.Pop(&x.due).(deadline), true, 0
}

// sweep gives the objects that are already there what is left of their time.
func (s *store) sweep(ctx context.Context, life time.Duration) {
	view := s.proj.Now()
	defer view.Close()
	for state, err := range view.List(projections.Selector{Group: s.resource.Group, Resource: s.resource.Resource}, "") {
		if err != nil || ctx.Err() != nil {
			if ctx.Err() == nil {
				s.logger.Error("objects from before this start will not expire", "error", err)
			}
			return
		}
		written := time.Now()
		if e, ok, err := s.proj.EventAt(state.Revision); err == nil && ok {
			written = e.Time
		}
		s.expiry.mu.Lock()
		// Spread over some seconds, as after a long stop they may be many.
		s.expiry.push(deadline{key: state.Key, seq: state.Revision, when: noSooner(written.Add(life))})
		s.expiry.mu.Unlock()
	}
}

func noSooner(when time.Time) time.Time {
	if soon := time.Now(); when.Before(soon) {
		return soon.Add(wait.Jitter(time.Second, 10))
	}
	return when
}

// runExpiry deletes what is due until ctx ends.
func (s *store) runExpiry(ctx context.Context) {
	for ctx.Err() == nil {
		d, over, in := s.expiry.next(time.Now())
		if over {
			s.endOne(ctx, d)
			continue
		}
		timer := time.NewTimer(in)
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-s.expiry.wake:
		}
		timer.Stop()
	}
}

// endOne deletes one object whose time is over.
func (s *store) endOne(ctx context.Context, d deadline) {
	state, err := s.cursor(d.key)
	if err == nil {
		if !state.Exists() || state.Revision != d.seq {
			return
		}
		var doc document
		if doc, err = parseDocument(state.Object); err == nil {
			ctx := WithAttribution(ctx, Attribution{Reason: "its time to live is over", Verb: "delete"})
			_, err = s.appendDeletion(ctx, state, doc, s.storageKey(d.key))
		}
	}
	if err == nil || errors.Is(err, errConflict) || ctx.Err() != nil { // a conflict: somebody wrote or deleted it meanwhile
		return
	}
	d.wait = min(max(2*d.wait, expiryRetry), expiryRetryMax)
	s.logger.Warn("an expired object could not be deleted, trying again", events.LogObject, d.key.String(), "after", d.wait, events.LogError, err)
	d.when = time.Now().Add(d.wait)
	s.expiry.mu.Lock()
	defer s.expiry.mu.Unlock()
	s.expiry.push(d)
}

// deadlines is a heap, the soonest first.
type deadlines []deadline

func (h deadlines) Len() int           { return len(h) }
func (h deadlines) Less(i, j int) bool { return h[i].when.Before(h[j].when) }
func (h deadlines) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *deadlines) Push(x any)        { *h = append(*h, x.(deadline)) }
func (h *deadlines) Pop() any {
	old := *h
	d := old[len(old)-1]
	*h = old[:len(old)-1]
	return d
}
