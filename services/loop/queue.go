package loop

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/orlog-io/orlog/events"
)

// Backoff of a key that failed: doubles from the first to the second.
const (
	firstRetry = 5 * time.Millisecond
	lastRetry  = 30 * time.Second
)

// queue holds dirty keys in the order in which they became dirty, each once. A key that is being decided
// and becomes dirty again is handed out again afterwards.
type queue struct {
	mu      sync.Mutex
	arrived *sync.Cond
	closed  bool

	order    []events.Key
	dirty    map[events.Key]cause
	working  map[events.Key]bool
	timers   map[events.Key]*delayed
	failures map[events.Key]int
	parked   map[events.Key]cause
	// resting keys were expensive to decide and are not decided again before.
	resting map[events.Key]time.Time
	woken   time.Time
	alarm   *time.Timer // wakes later; nil: none is set
	wakes   int         // how often the parked keys were to be woken
}

// cause is an events.Cause with the class of its event: an intent explains more than a report.
type cause struct {
	events.Cause
	intent bool
}

type delayed struct {
	timer *time.Timer
	at    time.Time
	why   cause
}

func newQueue() *queue {
	q := &queue{dirty: map[events.Key]cause{}, working: map[events.Key]bool{}, timers: map[events.Key]*delayed{},
		failures: map[events.Key]int{}, parked: map[events.Key]cause{}, resting: map[events.Key]time.Time{}}
	q.arrived = sync.NewCond(&q.mu)
	return q
}

// better picks the cause that explains more: the newest intent, else the newest report.
func better(a, b cause) cause {
	switch {
	case a.Sequence == 0:
		return b
	case b.Sequence == 0:
		return a
	case a.intent != b.intent:
		if a.intent {
			return a
		}
		return b
	case a.Sequence > b.Sequence:
		return a
	}
	return b
}

// add marks a key dirty now.
func (q *queue) add(key events.Key, why cause) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.addLocked(key, why)
}

func (q *queue) addLocked(key events.Key, why cause) {
	if q.closed {
		return
	}
	delete(q.parked, key)
	if until, rests := q.resting[key]; rests {
		if wait := time.Until(until); wait > 0 {
			q.addAfterLocked(key, why, wait)
			return
		}
		delete(q.resting, key)
	}
	old, already := q.dirty[key]
	q.dirty[key] = better(old, why)
	if already || q.working[key] {
		return
	}
	q.order = append(q.order, key)
	q.arrived.Signal()
}

// addAfter marks a key dirty later, unless it is due earlier anyway.
func (q *queue) addAfter(key events.Key, why cause, wait time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.addAfterLocked(key, why, wait)
}

func (q *queue) addAfterLocked(key events.Key, why cause, wait time.Duration) {
	if q.closed {
		return
	}
	at := time.Now().Add(wait)
	if d, set := q.timers[key]; set {
		if !at.Before(d.at) {
			d.why = better(d.why, why)
			return
		}
		d.at, d.why = at, why // what was to be looked at later is no reason to look now
		d.timer.Reset(wait)
		return
	}
	d := &delayed{at: at, why: why}
	d.timer = time.AfterFunc(wait, func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		if q.timers[key] == d && !time.Now().Before(d.at) {
			delete(q.timers, key)
			q.addLocked(key, d.why)
		}
	})
	q.timers[key] = d
}

// retry marks a key dirty after its backoff, and returns that.
func (q *queue) retry(key events.Key, why cause) time.Duration {
	q.mu.Lock()
	n := q.failures[key]
	q.failures[key] = n + 1
	q.mu.Unlock()
	wait := lastRetry
	if n < 13 {
		wait = min(firstRetry<<n, lastRetry)
	}
	q.addAfter(key, why, wait)
	return wait
}

// succeeded resets a key's backoff.
func (q *queue) succeeded(key events.Key) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.failures, key)
}

// park keeps a key until wake. One that was decided on a view from before the last wake is woken soon: what
// would have woken it has passed.
func (q *queue) park(w work) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if _, dirty := q.dirty[w.key]; dirty {
		return
	}
	q.parked[w.key] = w.why
	if w.wakes != q.wakes {
		q.wakeSoon()
	}
}

// wakeEvery is how often parked keys are woken at most: many changes may each be worth another look, but
// one look sees them all.
const wakeEvery = 200 * time.Millisecond

// wake marks all parked keys dirty, now or soon.
func (q *queue) wake() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.wakes++
	q.wakeSoon()
}

// wakeSoon wakes the parked keys, or sees to it that they are woken when it is time again. q.mu is held.
func (q *queue) wakeSoon() {
	if q.closed || q.alarm != nil {
		return
	}
	if wait := wakeEvery - time.Since(q.woken); wait > 0 && !q.woken.IsZero() {
		q.alarm = time.AfterFunc(wait, func() {
			q.mu.Lock()
			defer q.mu.Unlock()
			q.alarm = nil
			q.wakeLocked()
		})
		return
	}
	q.wakeLocked()
}

func (q *queue) wakeLocked() {
	q.woken = time.Now()
	keys := slices.Collect(maps.Keys(q.parked))
	slices.SortFunc(keys, func(a, b events.Key) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	for _, key := range keys {
		q.addLocked(key, q.parked[key])
	}
}

// anyWaiting says whether wake would do anything: for a key that is parked, or that may be about to be.
func (q *queue) anyWaiting() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.parked) > 0 || len(q.working) > 0
}

// take hands out up to limit keys, waiting for the first. false: the queue was closed.
func (q *queue) take(limit int) ([]work, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.order) == 0 && !q.closed {
		q.arrived.Wait()
	}
	if q.closed {
		return nil, false
	}
	n := min(limit, len(q.order))
	out := make([]work, n)
	for i, key := range q.order[:n] {
		out[i] = work{key: key, why: q.dirty[key], wakes: q.wakes}
		delete(q.dirty, key)
		q.working[key] = true
	}
	q.order = append(q.order[:0:0], q.order[n:]...)
	return out, true
}

// work is a key that is being decided, with why, how many wakes there had been, and the sequence of the log that it
// was decided at, once it was.
type work struct {
	key   events.Key
	why   cause
	wakes int
	view  events.Sequence
}

// A decision about a key that took longer than cheap keeps the key resting for restFactor times as long: a
// Service over thousands of pods, say, must not use up a processor while they all start.
const (
	cheap      = 5 * time.Millisecond
	restFactor = 4
)

// done ends the work on a key; cost is how long it took to decide.
func (q *queue) done(key events.Key, cost time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.working, key)
	why, again := q.dirty[key]
	if cost > cheap && !q.closed {
		q.resting[key] = time.Now().Add(restFactor * cost)
		if again {
			delete(q.dirty, key)
			q.addAfterLocked(key, why, restFactor*cost)
			return
		}
	}
	if again && !q.closed {
		q.order = append(q.order, key)
		q.arrived.Signal()
	}
}

// closeWith closes the queue when ctx ends.
func (q *queue) closeWith(ctx context.Context) func() bool {
	return context.AfterFunc(ctx, func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		q.closed = true
		for _, d := range q.timers {
			d.timer.Stop()
		}
		if q.alarm != nil {
			q.alarm.Stop()
		}
		q.arrived.Broadcast()
	})
}
