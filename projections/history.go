package projections

import (
	"errors"
	"fmt"
	"iter"
	"sort"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/orlog-io/orlog/events"
)

// EventAt returns the event at a sequence; false where it is not one that the store keeps. Its Object is
// made out of the states around it: equal in meaning to the log's, not byte for byte. Errors: ErrTooOld
// where the store keeps no history.
func (s *Store) EventAt(seq events.Sequence) (events.Event, bool, error) {
	v, err := s.history()
	if err != nil {
		return events.Event{}, false, err
	}
	defer v.Close()
	if err := v.enter(); err != nil {
		return events.Event{}, false, err
	}
	defer v.gate.leave()
	e, ok, err := v.event(seq)
	if err != nil {
		err = fmt.Errorf("projection in %s: event %d: %w", s.dir, seq, err)
	}
	return e, ok, err
}

// Timeline yields every event about an object from sequence from to sequence to, both inclusive (to 0: the
// position), oldest first, those of earlier lives and those that changed nothing included. Objects are as in
// EventAt. Errors: ErrTooOld where the store keeps no history.
func (s *Store) Timeline(k events.Key, from, to events.Sequence) iter.Seq2[events.Event, error] {
	return func(yield func(events.Event, error) bool) {
		v, err := s.history()
		if err == nil {
			defer v.Close()
			err = v.enter()
		}
		if err != nil {
			yield(events.Event{}, err)
			return
		}
		defer v.gate.leave()
		if to == 0 {
			to = v.at
		}
		if err := v.timeline(k, from, to, yield); err != nil {
			yield(events.Event{}, fmt.Errorf("projection in %s: timeline of %s: %w", s.dir, k, err))
		}
	}
}

func (s *Store) history() (*View, error) {
	if !s.o.History {
		return nil, fmt.Errorf("projection in %s keeps no history: %w", s.dir, ErrTooOld)
	}
	v := s.Now()
	return v, v.err
}

// timeline relies on every event about an object having made a version of it: all but a live object's
// newest one are rows of the history.
func (v *View) timeline(k events.Key, from, to events.Sequence, yield func(events.Event, error) bool) (err error) {
	present, err := v.s.present(v.snap, k)
	if err != nil {
		return err
	}
	prefix := objectRow(spaceHistory, k)
	it, err := v.snap.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: after(prefix)})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	ok := it.Last()
	for ; ok; ok = it.Prev() {
		seq := versionOf(it.Key())
		if seq < from {
			continue
		}
		if seq > to {
			return nil
		}
		e, _, err := v.event(seq)
		if err != nil {
			return err
		}
		if !yield(e, nil) {
			return nil
		}
	}
	if err := it.Error(); err != nil {
		return err
	}
	if n := present.Newest(); present.Exists() && n >= from && n <= to {
		e, _, err := v.event(n)
		if err != nil {
			return err
		}
		yield(e, nil)
	}
	return nil
}

// event reads one event and makes its Object.
func (v *View) event(seq events.Sequence) (events.Event, bool, error) {
	b, err := v.s.get(v.snap, eventRow(seq))
	if err != nil || b == nil {
		return events.Event{}, false, err
	}
	rec, err := decodeEvent(seq, b)
	if err != nil || !rec.changed {
		return rec.Event, err == nil, err
	}
	prev, next, err := v.around(rec)
	if err != nil {
		return events.Event{}, false, err
	}
	rec.Object = objectOf(rec.Event, prev, next)
	return rec.Event, true, nil
}

// change reads one event with the states around it; the same Change that Apply made when it came.
func (v *View) change(rec eventRecord) (Change, error) {
	prev, next, err := v.around(rec)
	if err != nil {
		return Change{}, err
	}
	return newChange(rec.Event, prev, next, rec.changed), nil
}

// around reads an object's states just before and just after an event about it.
func (v *View) around(rec eventRecord) (prev, next events.State, err error) {
	k := rec.Subject.Key
	n, err := v.s.stateAt(v.snap, k, rec.Sequence)
	if err != nil {
		return events.State{}, events.State{}, err
	}
	p, err := v.s.versionAt(v.snap, k, rec.Sequence-1)
	if err == nil {
		err = v.s.fill(v.snap, &p)
	}
	return p.State, n.State, err
}

// sequenceAt finds the newest event whose clock is not after t, by bisection over the events' rows.
func (s *Store) sequenceAt(snap *pebble.Snapshot, position events.Sequence, t time.Time) (at events.Sequence, err error) {
	it, err := snap.NewIter(&pebble.IterOptions{LowerBound: eventRow(0), UpperBound: []byte{spaceEvent + 1}})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	later := func(n int) bool { // is the first event at or after n later than t, or is there none?
		if err != nil || !it.SeekGE(eventRow(events.Sequence(n))) {
			return true
		}
		asOf, failed := asOfEvent(it.Value())
		err = errors.Join(err, failed)
		return asOf.After(t)
	}
	n := sort.Search(int(position)+1, later)
	if err = errors.Join(err, it.Error()); err != nil {
		return 0, err
	}
	switch {
	case !it.SeekGE(eventRow(events.Sequence(n))): // no event is later
		return position, it.Error()
	case n == 0:
		return 0, nil
	}
	return events.Sequence(n) - 1, nil
}
