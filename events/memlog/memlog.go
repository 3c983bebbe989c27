package memlog

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/orlog-io/orlog/events"
)

// Log is an events.Log in memory.
type Log struct {
	mu     sync.Mutex
	events []events.Event // the event with sequence n is at n-1
	byID   map[string]events.Sequence
	// last is the newest sequence by exact subject, by AnyNode pattern and by AnyClass pattern, so that the
	// usual guards need no scan.
	last    map[string]events.Sequence
	changed chan struct{} // closed and replaced whenever readers have something to look at
	closed  bool
	ids     int
	now     func() time.Time
	faults
}

var _ events.Log = (*Log)(nil)

// New gives an empty log that stamps events with the system's clock.
func New() *Log { return NewWithClock(time.Now) }

// NewWithClock gives an empty log that stamps events with now: [events.Event.Stored].
func NewWithClock(now func() time.Time) *Log {
	return &Log{byID: map[string]events.Sequence{}, last: map[string]events.Sequence{}, changed: make(chan struct{}), now: now}
}

// Append implements events.Log. An event without ID is given "memlog-<n>", n counting such events.
func (l *Log) Append(ctx context.Context, entries ...events.Entry) ([]events.Sequence, error) {
	if err := events.CheckAppend(entries); err != nil {
		return nil, err
	}
	fault := l.nextFault(entries)
	if err := fault.wait(ctx); err != nil {
		return nil, err
	}
	if fault.Before != nil {
		return nil, unavailable(fault.Before)
	}
	seqs, err := l.append(entries)
	if err == nil && fault.After != nil {
		return nil, unavailable(fault.After)
	}
	return seqs, err
}

func (l *Log) append(entries []events.Entry) ([]events.Sequence, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, fmt.Errorf("append: %w", events.ErrClosed)
	}
	if seqs, err := l.appended(entries); seqs != nil || err != nil {
		return seqs, err
	}
	for _, e := range entries {
		if e.Expect == nil {
			continue
		}
		if actual := l.lastOn(e.Expect.On); actual != e.Expect.Last {
			return nil, fmt.Errorf("append %s: %w", e.Event.Type, &events.ConflictError{On: e.Expect.On, Expected: e.Expect.Last, Actual: actual})
		}
	}
	stored := l.now()
	kept := make([]events.Event, len(entries))
	for i, e := range entries {
		if e.Event.ID == "" {
			l.ids++
			e.Event.ID = fmt.Sprintf("memlog-%d", l.ids)
		}
		w, err := events.Encode(e.Event)
		if err != nil {
			return nil, err
		}
		if kept[i], err = events.Decode(w, events.Sequence(len(l.events)+i+1), stored); err != nil {
			return nil, err
		}
	}
	seqs := make([]events.Sequence, len(kept))
	for i, e := range kept {
		l.keep(e)
		seqs[i] = e.Sequence
	}
	l.wake()
	return seqs, nil
}

// appended returns the sequences of a retried append, nil where it is a new one.
func (l *Log) appended(entries []events.Entry) ([]events.Sequence, error) {
	var seqs []events.Sequence
	for _, e := range entries {
		if seq := l.byID[e.Event.ID]; seq != 0 {
			seqs = append(seqs, seq)
		}
	}
	if len(seqs) != 0 && len(seqs) != len(entries) {
		return nil, fmt.Errorf("%w: append of %d events: %d of their IDs are on the log already", events.ErrInvalid, len(entries), len(seqs))
	}
	return seqs, nil
}

func (l *Log) keep(e events.Event) {
	l.events = append(l.events, e)
	l.byID[e.ID] = e.Sequence
	for _, s := range []string{e.Subject.String(), e.Subject.AnyNode(), e.Subject.AnyClass()} {
		l.last[s] = e.Sequence
	}
}

// wake tells all waiting readers to look again. l.mu is held.
func (l *Log) wake() {
	close(l.changed)
	l.changed = make(chan struct{})
}

// lastOn is the newest sequence on a pattern, 0 where there is none. l.mu is held.
func (l *Log) lastOn(pattern string) events.Sequence {
	if seq, known := l.last[pattern]; known {
		return seq
	}
	for i := len(l.events) - 1; i >= 0; i-- {
		if events.Matches(pattern, l.events[i].Subject.String()) {
			return l.events[i].Sequence
		}
	}
	return 0
}

// Get implements events.Log.
func (l *Log) Get(ctx context.Context, seq events.Sequence) (events.Event, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch err := ctx.Err(); {
	case err != nil:
		return events.Event{}, err
	case l.closed:
		return events.Event{}, fmt.Errorf("get %d: %w", seq, events.ErrClosed)
	case seq == 0 || seq > events.Sequence(len(l.events)):
		return events.Event{}, fmt.Errorf("event %d: %w", seq, events.ErrNotFound)
	}
	return l.events[seq-1], nil
}

// Last implements events.Log.
func (l *Log) Last(ctx context.Context) (events.Sequence, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if l.closed {
		return 0, fmt.Errorf("last: %w", events.ErrClosed)
	}
	return events.Sequence(len(l.events)), nil
}

// LastOn implements events.Log.
func (l *Log) LastOn(ctx context.Context, pattern string) (events.Event, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return events.Event{}, err
	}
	if l.closed {
		return events.Event{}, fmt.Errorf("last on %s: %w", pattern, events.ErrClosed)
	}
	seq := l.lastOn(pattern)
	if seq == 0 {
		return events.Event{}, fmt.Errorf("last on %s: %w", pattern, events.ErrNotFound)
	}
	return l.events[seq-1], nil
}

// Close implements events.Log. Closing twice is no error.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed {
		l.closed = true
		l.wake()
	}
	return nil
}

func unavailable(err error) error {
	if errors.Is(err, events.ErrUnavailable) {
		return err
	}
	return fmt.Errorf("%w: %w", events.ErrUnavailable, err)
}
