package sim

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/services/loop"
)

// parallel is how many effects of a step the loop has under way at once at most.
const parallel = 32

// task is a decision under way: its effects are performed one at a time, and much may happen in between.
type task struct {
	u         *unit
	batch     []work
	decisions []loop.Decision

	step   int           // the next step of the only decision
	rest   []loop.Effect // of the present step
	window []loop.Effect // under way at once, in any order
	size   int
	failed error // in the present window
	all    error
	told   bool // the decision was asked what to do about the failure
}

// more says whether there is an effect left to perform, and moves on to it.
func (t *task) more() bool {
	if len(t.batch) > 1 {
		return t.step == 0 && slices.ContainsFunc(t.decisions, func(d loop.Decision) bool { return len(d.Effects()) > 0 })
	}
	for len(t.window) == 0 {
		if t.failed != nil { // the loop gives a step up after a window with a failure
			t.all, t.failed, t.rest = errors.Join(t.all, t.failed), nil, nil
		}
		if len(t.rest) > 0 {
			t.size = min(max(1, 2*t.size), parallel)
			n := min(t.size, len(t.rest))
			t.window, t.rest = slices.Clone(t.rest[:n]), t.rest[n:]
			return true
		}
		steps := t.decisions[0].Steps
		if t.told || t.step == len(steps) || (steps[t.step].AfterSuccess && t.all != nil) {
			if t.told || !t.refused() {
				return false
			}
			continue
		}
		t.rest, t.size = steps[t.step].Effects, 0
		t.step++
	}
	return true
}

// refused asks the decision what else to do where an effect failed for good.
func (t *task) refused() bool {
	d := t.decisions[0]
	if d.Refused == nil || t.all == nil || errors.Is(t.all, events.ErrConflict) || isUnavailable(t.all) {
		return false
	}
	t.told, t.size = true, 0
	t.rest = d.Refused(t.all)
	return len(t.rest) > 0
}

// act performs one effect, or all of a batch.
func (t *task) act() {
	if len(t.batch) > 1 {
		t.step++
		if t.performBatch() {
			t.end()
		}
		return
	}
	i := t.u.p.w.rng.IntN(len(t.window))
	e := t.window[i]
	t.window = slices.Delete(t.window, i, i+1)
	w := t.batch[0]
	r := t.u.p.perform(t.u, []loop.Effect{e}, []events.Cause{w.why.Cause})[0]
	if t.crashes() {
		return
	}
	if r.Err != nil {
		t.failed = errors.Join(t.failed, fmt.Errorf("%s %s: %w", e.Verb, e.Key, r.Err))
	} else {
		t.wrote(w.key, e, r.Sequence)
	}
	if !t.more() {
		t.end()
	}
}

// crashes says whether the process has crashed after a write, and with it this task.
func (t *task) crashes() bool {
	f := &t.u.p.w.faults
	if !f.crashes() {
		return false
	}
	f.crash(t.u.p)
	return true
}

func (t *task) end() {
	t.u.p.tasks = slices.DeleteFunc(t.u.p.tasks, func(o *task) bool { return o == t })
	if len(t.batch) == 1 {
		t.finish()
	}
}

func (t *task) wrote(key events.Key, e loop.Effect, seq events.Sequence) {
	wrote := t.u.wrote
	if loop.Leases.Is(e.Key) {
		wrote = t.u.wroteVolatile
	}
	at := t.u.slot(key)
	wrote[at] = max(wrote[at], seq)
}

// performBatch appends all effects of all decisions together; false where the process then crashed.
func (t *task) performBatch() bool {
	var effects []loop.Effect
	var causes []events.Cause
	var owner []int
	for i, d := range t.decisions {
		for _, e := range d.Effects() {
			effects, causes, owner = append(effects, e), append(causes, t.batch[i].why.Cause), append(owner, i)
		}
	}
	failed := make([]error, len(t.batch))
	results := t.u.p.perform(t.u, effects, causes)
	if t.crashes() {
		return false
	}
	for j, r := range results {
		if r.Err != nil {
			failed[owner[j]] = errors.Join(failed[owner[j]], r.Err)
		} else {
			t.wrote(t.batch[owner[j]].key, effects[j], r.Sequence)
		}
	}
	for i := range t.batch {
		t.settle(t.batch[i], t.decisions[i], failed[i])
	}
	return true
}

// finish settles a task that has nothing left to perform.
func (t *task) finish() {
	if len(t.batch) == 1 {
		t.settle(t.batch[0], t.decisions[0], t.all)
		return
	}
	for i := range t.batch {
		t.settle(t.batch[i], t.decisions[i], nil)
	}
}

// settle schedules what comes next for a key.
func (t *task) settle(x work, d loop.Decision, err error) {
	u := t.u
	if err != nil {
		if isUnavailable(err) || !(errors.Is(err, events.ErrConflict) || errors.Is(err, events.ErrInvalid)) {
			u.wrote[u.slot(x.key)] = u.p.w.record.last() // whatever it wrote is among it
		}
		n := u.failures[x.key]
		u.failures[x.key] = n + 1
		wait := lastRetry
		if n < 13 {
			wait = min(firstRetry<<n, lastRetry)
		}
		u.p.w.tell("%s will decide %s again in %s: %s", u.spec.Name, x.key, wait, strings.ReplaceAll(err.Error(), "\n", "; "))
		u.addAfter(x.key, x.why, wait)
	} else {
		delete(u.failures, x.key)
		if d.Again > 0 {
			u.addAfter(x.key, x.why, d.Again)
		}
		if d.Park {
			u.park(x)
		}
	}
	delete(u.working, x.key)
	if _, dirty := u.dirty[x.key]; dirty {
		u.order = append(u.order, x.key)
	}
}
