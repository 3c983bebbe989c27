package projections

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/cockroachdb/pebble/v2"

	"github.com/orlog-io/orlog/events"
)

const (
	// replayChanges and replayRows bound one read from the disk.
	replayChanges = 256
	replayRows    = 20000
)

// Watcher delivers every selected change once, in order. One goroutine calls Next; Position, Wake and Close
// may be called from others.
//
// It has two modes. Live, each commit puts what is selected into its queue. In the past (it began there, or
// its queue grew too long) it reads the store's events from the disk until it has caught up.
type Watcher struct {
	s    *Store
	sel  Selector
	wake chan struct{} // holds one token: look again

	mu     sync.Mutex
	at     events.Sequence // everything selected up to here has been returned by Next
	live   bool
	queue  []*Change
	queued int
	err    error
	nudged bool
}

// Watch begins just after a sequence, which may lie in the future. A store with history begins anywhere in
// the past; one without can only reach back over the few thousand newest events, and the watcher's Next
// returns ErrTooOld where that is not enough: take a view, then watch from its Sequence. Close the watcher.
func (s *Store) Watch(from events.Sequence, sel Selector) *Watcher {
	w := &Watcher{s: s, sel: sel, at: from, wake: make(chan struct{}, 1)}
	ok, err := s.feed.attach(w, from)
	if err == nil && !ok && !s.o.History {
		err = fmt.Errorf("watch from sequence %d: the store keeps no history, it is at %d: %w", from, s.Position(), ErrTooOld)
	}
	if err != nil {
		w.end(err)
	}
	return w
}

// Next returns the next changes, waiting for the first. It returns none, and no error, after Wake. Errors:
// ctx's own (nothing is lost: call again), ErrTooOld where a reader of a store without history fell too far
// behind, events.ErrClosed.
func (w *Watcher) Next(ctx context.Context) ([]Change, error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		out, live, err := w.take()
		if err != nil || out != nil {
			return out, err
		}
		if !live {
			if out, err = w.replay(); err != nil || len(out) > 0 {
				return out, err
			}
			continue
		}
		select {
		case <-w.wake:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// take empties the queue, up to a batch; not nil but empty after Wake.
func (w *Watcher) take() (out []Change, live bool, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return nil, w.live, w.err
	}
	n := min(len(w.queue), events.MaxBatch)
	for _, c := range w.queue[:n] {
		out = append(out, *c)
		w.queued -= c.size()
		w.at = c.Event.Sequence
	}
	if w.queue = w.queue[n:]; len(w.queue) == 0 {
		w.queue = nil
	}
	if w.live { // one that is still in the past first catches up
		if w.nudged && out == nil {
			out = []Change{}
		}
		w.nudged = false
	}
	return out, w.live, nil
}

// Position is up to where Next has returned everything that was selected: a bookmark at it overtakes
// nothing, once the caller has passed on what Next gave it.
func (w *Watcher) Position() events.Sequence {
	f := &w.s.feed
	f.mu.Lock()
	defer f.mu.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.live && len(w.queue) == 0 {
		w.at = max(w.at, f.position)
	}
	return w.at
}

// Wake makes a Next that waits, or else the following one, return at once, with nothing where there is
// nothing: for a reader that is to report its Position.
func (w *Watcher) Wake() {
	w.mu.Lock()
	w.nudged = true
	w.mu.Unlock()
	w.signal()
}

// Close ends the watcher: Next returns events.ErrClosed.
func (w *Watcher) Close() {
	w.s.feed.detach(w)
	w.end(fmt.Errorf("watcher: %w", events.ErrClosed))
}

func (w *Watcher) signal() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// end makes Next return err for ever. The first end stays.
func (w *Watcher) end(err error) {
	w.mu.Lock()
	if w.err == nil {
		w.err = err
	}
	w.queue, w.queued = nil, 0
	w.mu.Unlock()
	w.signal()
}

// goLive lets offers in from a sequence on, unless the watcher has ended meanwhile.
func (w *Watcher) goLive(at events.Sequence) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.at, w.live = at, true
	}
	return w.err
}

// offer queues a change if it is selected and new; the feed's lock is held.
func (w *Watcher) offer(c *Change) bool {
	if (!c.Changed && !w.sel.Ignored) || !w.sel.Matches(c.Event.Subject.Key) {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if c.Event.Sequence <= w.at || !w.live {
		return false
	}
	w.queue = append(w.queue, c)
	w.queued += c.size()
	return true
}

// settle wakes the reader after a commit. Where it lags too far it gives up the queue: then the reader goes
// on from the disk, or not at all without history. True: the watcher is live no longer.
func (w *Watcher) settle(limit int) (gone bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.signal()
	if w.queued <= limit {
		return false
	}
	if !w.s.o.History && w.err == nil {
		w.err = fmt.Errorf("watcher of %q fell %d changes behind, and the store keeps no history: %w", w.sel.Resource, len(w.queue), ErrTooOld)
	}
	w.live, w.queue, w.queued = false, nil, 0
	return true
}

// replay reads the next changes from the disk and, at the end of what is there, makes the watcher live.
func (w *Watcher) replay() ([]Change, error) {
	v, err := w.s.history()
	if err != nil {
		return nil, err
	}
	defer v.Close()
	out, at, err := v.replay(w.at, w.sel)
	if err != nil {
		return nil, fmt.Errorf("projection in %s: watching from %d: %w", w.s.dir, w.at, err)
	}
	w.mu.Lock()
	w.at = max(w.at, at)
	w.mu.Unlock()
	if at >= v.at {
		_, err = w.s.feed.attach(w, w.at) // false: much was committed meanwhile; read on
	}
	return out, err
}

// replay reads selected changes after a sequence, and says up to where it has read.
func (v *View) replay(from events.Sequence, sel Selector) (out []Change, at events.Sequence, err error) {
	if err := v.enter(); err != nil {
		return nil, 0, err
	}
	defer v.gate.leave()
	it, err := v.snap.NewIter(&pebble.IterOptions{LowerBound: eventRow(from + 1), UpperBound: []byte{spaceEvent + 1}})
	if err != nil {
		return nil, 0, err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	prefix := sel.prefix(0)[1:]
	rows := 0
	for ok := it.First(); ok; ok = it.Next() {
		if len(out) == replayChanges || rows == replayRows {
			return out, at, nil
		}
		rows++
		at = eventSequence(it.Key())
		if !bytes.HasPrefix(eventKey(it.Value()), prefix) {
			continue
		}
		rec, err := decodeEvent(at, it.Value())
		if err != nil {
			return nil, 0, err
		}
		if (!rec.changed && !sel.Ignored) || !sel.Matches(rec.Subject.Key) {
			continue
		}
		c, err := v.change(rec)
		if err != nil {
			return nil, 0, err
		}
		out = append(out, c)
	}
	return out, v.at, it.Error()
}
