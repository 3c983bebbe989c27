package projections

import (
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/orlog-io/orlog/events"
)

// View is the store as of one sequence: consistent, read-only, cheap to make. It holds back compaction, so
// Close it soon. Its methods may be called from many goroutines.
type View struct {
	s    *Store
	snap *pebble.Snapshot
	at   events.Sequence
	past bool
	gate gate
	done chan struct{} // closed when the snapshot is
	err  error         // why there is no snapshot
}

// Now is the store at its position. On a closed store every method of the view returns events.ErrClosed.
func (s *Store) Now() *View {
	v, err := s.view(func(_ *pebble.Snapshot, position events.Sequence) (events.Sequence, error) { return position, nil })
	if err != nil {
		return &View{s: s, err: err}
	}
	return v
}

// At is the store as of a sequence, 0 being before the first event. Errors: ErrFuture past the position,
// ErrTooOld before it where the store keeps no history, events.ErrClosed.
func (s *Store) At(seq events.Sequence) (*View, error) {
	return s.view(func(_ *pebble.Snapshot, position events.Sequence) (events.Sequence, error) {
		switch {
		case seq > position:
			return 0, fmt.Errorf("sequence %d, the store is at %d: %w", seq, position, ErrFuture)
		case seq < position && !s.o.History:
			return 0, fmt.Errorf("sequence %d: the store keeps no history, it is at %d: %w", seq, position, ErrTooOld)
		}
		return seq, nil
	})
}

// AtTime is the store as of the newest event that the log had stored by t; before the first event it is
// empty. Where the log's clock went back, an event counts as stored when its predecessors were. A time
// after the newest event gives the store as it is now: whether t has passed is for the caller to know.
func (s *Store) AtTime(t time.Time) (*View, error) {
	return s.view(func(snap *pebble.Snapshot, position events.Sequence) (events.Sequence, error) {
		if !s.o.History {
			return 0, fmt.Errorf("time %s: the store keeps no history: %w", t.Format(time.RFC3339), ErrTooOld)
		}
		return s.sequenceAt(snap, position, t)
	})
}

// view makes a view at the sequence that choose picks, knowing the snapshot's own position.
func (s *Store) view(choose func(*pebble.Snapshot, events.Sequence) (events.Sequence, error)) (*View, error) {
	if !s.gate.enter() {
		return nil, fmt.Errorf("projection in %s: %w", s.dir, events.ErrClosed)
	}
	defer s.gate.leave()
	snap := s.db.NewSnapshot()
	v := &View{s: s, snap: snap, done: make(chan struct{})}
	b, err := s.get(snap, metaPosition) // from the snapshot itself: rows and position cannot disagree
	if err == nil {
		var position events.Sequence
		if position, _, _, err = decodePosition(b); err == nil {
			v.at, err = choose(snap, position)
			v.past = v.at < position
		}
	}
	if err != nil {
		return nil, fmt.Errorf("projection in %s: %w", s.dir, errors.Join(err, snap.Close()))
	}
	s.viewsMu.Lock()
	defer s.viewsMu.Unlock()
	s.views[v] = struct{}{}
	return v, nil
}

// Close frees the view, at once or when the reads under way have ended. Closing twice is harmless.
func (v *View) Close() {
	if v.snap == nil {
		return
	}
	v.gate.close(func() {
		v.s.viewsMu.Lock()
		delete(v.s.views, v)
		v.s.viewsMu.Unlock()
		if err := v.snap.Close(); err != nil {
			v.s.o.Logger.Error("closing a view", "dir", v.s.dir, "error", err)
		}
		close(v.done)
	})
}

func (v *View) enter() error {
	if v.err != nil {
		return v.err
	}
	if !v.gate.enter() {
		return fmt.Errorf("view of the projection in %s: %w", v.s.dir, events.ErrClosed)
	}
	return nil
}

// Sequence is the view's place in the log.
func (v *View) Sequence() events.Sequence { return v.at }

// Get returns an object's state, and whether it is alive. It is Cursor for those who want the object.
func (v *View) Get(k events.Key) (events.State, bool, error) {
	st, err := v.Cursor(k)
	return st, err == nil && st.Exists(), err
}

// Cursor returns what is known of an object, alive, gone or never spoken of: Desired and Observed are what
// its next writer expects. A tombstone's Object is the last state where the store keeps history, else nil.
func (v *View) Cursor(k events.Key) (events.State, error) {
	if err := v.enter(); err != nil {
		return events.State{}, err
	}
	defer v.gate.leave()
	r, err := v.s.stateAt(v.snap, k, v.at)
	if err != nil {
		return events.State{}, fmt.Errorf("projection in %s: reading %s: %w", v.s.dir, k, err)
	}
	return r.State, nil
}

// present reads an object's newest row: among the living, then among the dead. Unknown: the zero state.
func (s *Store) present(from pebble.Reader, k events.Key) (row, error) {
	for _, space := range []byte{spaceLive, spaceDead} {
		v, closer, err := from.Get(objectRow(space, k))
		if errors.Is(err, pebble.ErrNotFound) {
			continue
		}
		if err != nil {
			return row{}, err
		}
		r, err := decodeRow(k, v)
		return r, errors.Join(err, closer.Close())
	}
	return row{State: events.State{Key: k}}, nil
}

// stateAt reads an object's state as of a sequence, with its object where the store has it.
func (s *Store) stateAt(from pebble.Reader, k events.Key, at events.Sequence) (row, error) {
	r, err := s.present(from, k)
	if err != nil {
		return row{}, err
	}
	if r.Newest() > at {
		if r, err = s.versionAt(from, k, at); err != nil {
			return row{}, err
		}
	}
	err = s.fill(from, &r)
	return r, err
}

// versionAt reads the newest overwritten version that is not newer than at, bare or not.
func (s *Store) versionAt(from pebble.Reader, k events.Key, at events.Sequence) (row, error) {
	prefix := objectRow(spaceHistory, k)
	it, err := from.NewIter(&pebble.IterOptions{LowerBound: appendVersion(prefix[:len(prefix):len(prefix)], at), UpperBound: after(prefix)})
	if err != nil {
		return row{}, err
	}
	r := row{State: events.State{Key: k}}
	if it.First() {
		r, err = decodeRow(k, it.Value())
	}
	return r, errors.Join(err, it.Close())
}

// fill gives a bare row its object: the one that the event at its Revision made.
func (s *Store) fill(from pebble.Reader, r *row) error {
	if !r.bare || r.Revision == 0 || !s.o.History {
		return nil
	}
	v, closer, err := from.Get(versionRow(r.Key, r.Revision))
	if errors.Is(err, pebble.ErrNotFound) {
		return fmt.Errorf("version %d of %s is missing: the projection is damaged, delete its folder: it is rebuilt from the log", r.Revision, r.Key)
	}
	if err != nil {
		return err
	}
	full, err := decodeRow(r.Key, v)
	r.Object, r.bare = full.Object, false
	return errors.Join(err, closer.Close())
}
