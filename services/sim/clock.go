package sim

import (
	"container/heap"
	"time"
)

// epoch is when every simulation begins.
var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// clock is virtual time with timers. Timers that are due at the same moment go off in the order in which
// they were set.
type clock struct {
	now    time.Time
	timers timers
	set    int
}

type timer struct {
	at      time.Time
	order   int
	do      func()
	stopped bool
}

func (t *timer) stop() {
	if t != nil {
		t.stopped = true
	}
}

// after has do done when wait is over.
func (c *clock) after(wait time.Duration, do func()) *timer {
	c.set++
	t := &timer{at: c.now.Add(max(wait, 0)), order: c.set, do: do}
	heap.Push(&c.timers, t)
	return t
}

// advance moves the clock and sets off what is due on the way, each at its own time.
func (c *clock) advance(by time.Duration) {
	until := c.now.Add(by)
	for {
		t := c.next()
		if t == nil || t.at.After(until) {
			break
		}
		heap.Pop(&c.timers)
		c.now = t.at
		t.do()
	}
	c.now = until
}

// next is the timer that goes off first, nil where none is set.
func (c *clock) next() *timer {
	for len(c.timers) > 0 && c.timers[0].stopped {
		heap.Pop(&c.timers)
	}
	if len(c.timers) == 0 {
		return nil
	}
	return c.timers[0]
}

// timers is a heap by time.
type timers []*timer

func (t timers) Len() int { return len(t) }
func (t timers) Less(i, j int) bool {
	if t[i].at.Equal(t[j].at) {
		return t[i].order < t[j].order
	}
	return t[i].at.Before(t[j].at)
}
func (t timers) Swap(i, j int) { t[i], t[j] = t[j], t[i] }
func (t *timers) Push(x any)   { *t = append(*t, x.(*timer)) }
func (t *timers) Pop() any {
	old := *t
	last := old[len(old)-1]
	old[len(old)-1] = nil
	*t = old[:len(old)-1]
	return last
}
