package memlog

import (
	"context"
	"fmt"
	"time"

	"github.com/orlog-io/orlog/events"
)

// Fault is what happens to one Append. The zero Fault is none.
type Fault struct {
	// Delay passes before anything else happens. A ctx that ends meanwhile ends the append unpersisted.
	Delay time.Duration
	// Before fails the append before anything is persisted. The writer gets it wrapped in ErrUnavailable.
	Before error
	// After persists the append, then fails it. The writer cannot tell it from Before.
	After error
}

// faults is what the test or the simulator has arranged. Guarded by Log.mu.
type faults struct {
	queue  []Fault
	inject func([]events.Entry) Fault
	held   bool
}

// FailNext queues faults for the next appends, one each.
func (l *Log) FailNext(f ...Fault) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.queue = append(l.queue, f...)
}

// Inject has f decide the fault of every append for which none is queued; nil ends it. f must not call the
// log.
func (l *Log) Inject(f func([]events.Entry) Fault) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.inject = f
}

// Hold keeps new events from all subscriptions until Release: readers are late, while Get, Last and LastOn
// are not.
func (l *Log) Hold() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held = true
}

// Release undoes Hold.
func (l *Log) Release() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held = false
	l.wake()
}

func (l *Log) nextFault(entries []events.Entry) Fault {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.queue) > 0 {
		f := l.queue[0]
		l.queue = l.queue[1:]
		return f
	}
	if l.inject != nil {
		return l.inject(entries)
	}
	return Fault{}
}

func (f Fault) wait(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if f.Delay <= 0 {
		return nil
	}
	t := time.NewTimer(f.Delay)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", events.ErrUnavailable, ctx.Err())
	}
}
