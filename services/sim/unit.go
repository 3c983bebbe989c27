package sim

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/services/loop"
)

// What the loop's queue does, in virtual time.
const (
	firstRetry = 5 * time.Millisecond
	lastRetry  = 30 * time.Second
	wakeEvery  = 200 * time.Millisecond
)

// unit is one decider with its queue: the loop's unit and queue without goroutines.
type unit struct {
	p       *process
	decider loop.Decider
	spec    loop.Spec
	closed  bool

	order    []events.Key // dirty and not being decided
	dirty    map[events.Key]cause
	working  map[events.Key]bool
	delayed  map[events.Key]*delayed
	failures map[events.Key]int
	parked   map[events.Key]cause
	// wrote are the decider's own last writes by key, wroteVolatile those of the volatile log.
	wrote, wroteVolatile map[events.Key]events.Sequence
	woken                time.Time
	wakes                int
	alarm                *timer
}

// cause is an events.Cause with the class of its event.
type cause struct {
	events.Cause
	intent bool
}

type delayed struct {
	timer *timer
	why   cause
}

// work is a key that is being decided, with what dirtied it and how many wakes there had been.
type work struct {
	key   events.Key
	why   cause
	wakes int
}

func newUnit(p *process, d loop.Decider) *unit {
	spec := d.Spec()
	if spec.Serial {
		spec.Workers = 1
	}
	return &unit{p: p, decider: d, spec: spec, dirty: map[events.Key]cause{}, working: map[events.Key]bool{}, delayed: map[events.Key]*delayed{},
		failures: map[events.Key]int{}, parked: map[events.Key]cause{}, wrote: map[events.Key]events.Sequence{}, wroteVolatile: map[events.Key]events.Sequence{}}
}

func (u *unit) close() {
	u.closed = true
	for _, d := range u.delayed {
		d.timer.stop()
	}
	u.alarm.stop()
}

// mark makes dirty what a change concerns. No event can name one of the volatile log as its cause.
func (u *unit) mark(v *loop.View, c loop.Change, volatile bool) {
	for _, in := range u.spec.Inputs {
		if in.Resource != "*" && (in.Resource != c.Next.Key.Resource || in.Group != c.Next.Key.Group) {
			continue
		}
		var why cause
		if !volatile {
			why = cause{events.CauseOf(c.Event), c.Event.Subject.Class == events.Desired}
		}
		if in.Keys != nil {
			for _, key := range in.Keys(v, c) {
				u.add(key, why)
			}
		}
		if in.Wakes != nil && len(u.parked)+len(u.working) > 0 && in.Wakes(v, c) {
			u.wake()
		}
	}
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

func (u *unit) add(key events.Key, why cause) {
	if u.closed {
		return
	}
	delete(u.parked, key)
	old, already := u.dirty[key]
	u.dirty[key] = better(old, why)
	if !already && !u.working[key] {
		u.order = append(u.order, key)
	}
}

func (u *unit) addAfter(key events.Key, why cause, wait time.Duration) {
	if u.closed {
		return
	}
	at := u.p.w.clock.now.Add(wait)
	d := u.delayed[key]
	if d != nil {
		if !at.Before(d.timer.at) {
			d.why = better(d.why, why)
			return
		}
		d.timer.stop()
		d.why = why
	} else {
		d = &delayed{why: why}
		u.delayed[key] = d
	}
	d.timer = u.p.w.clock.after(wait, func() {
		delete(u.delayed, key)
		u.add(key, d.why)
	})
}

func (u *unit) wake() {
	u.wakes++
	u.wakeSoon()
}

// park keeps a key until wake; one that was decided on a view from before the last wake is woken soon.
func (u *unit) park(x work) {
	if _, dirty := u.dirty[x.key]; dirty {
		return
	}
	u.parked[x.key] = x.why
	if x.wakes != u.wakes {
		u.wakeSoon()
	}
}

func (u *unit) wakeSoon() {
	if u.alarm != nil {
		return
	}
	now := u.p.w.clock.now
	if wait := wakeEvery - now.Sub(u.woken); wait > 0 && !u.woken.IsZero() {
		u.alarm = u.p.w.clock.after(wait, func() {
			u.alarm = nil
			u.wakeNow()
		})
		return
	}
	u.wakeNow()
}

func (u *unit) wakeNow() {
	u.woken = u.p.w.clock.now
	for _, key := range slices.SortedFunc(maps.Keys(u.parked), compareKeys) {
		u.add(key, u.parked[key])
	}
}

// slot is under which key the decider's own writes are remembered.
func (u *unit) slot(key events.Key) events.Key {
	if u.spec.Serial {
		return events.Key{}
	}
	return key
}

// caughtUp says whether the projections hold the decider's own last writes for a key.
func (u *unit) caughtUp(key events.Key) bool {
	at := u.slot(key)
	return u.wrote[at] <= u.p.main.position() && (u.p.volatile == nil || u.wroteVolatile[at] <= u.p.volatile.position())
}

// ready says whether a key can be decided.
func (u *unit) ready() bool {
	return len(u.working) < max(1, u.spec.Workers) && (!u.spec.Serial || len(u.working) == 0) && slices.ContainsFunc(u.order, u.caughtUp)
}

// take hands out a dirty key, any one: workers overtake each other. A batch decider gets several.
func (u *unit) take() []work {
	var can []int
	for i, key := range u.order {
		if u.caughtUp(key) {
			can = append(can, i)
		}
	}
	n := 1
	if u.spec.Batch > 1 {
		n = 1 + u.p.w.rng.IntN(min(len(can), u.spec.Batch))
	}
	var out []work
	for range n {
		i := u.p.w.rng.IntN(len(can))
		key := u.order[can[i]]
		can = slices.Delete(can, i, i+1)
		out = append(out, work{key, u.dirty[key], u.wakes})
		delete(u.dirty, key)
		delete(u.wrote, u.slot(key))
		delete(u.wroteVolatile, u.slot(key))
		u.working[key] = true
	}
	u.order = slices.DeleteFunc(u.order, func(k events.Key) bool { return u.working[k] })
	return out
}

// decide decides about a key and begins to perform the effects.
func (u *unit) decide() {
	batch := u.take()
	w := u.p.w
	v, done := u.p.view(batch[0].why.Cause)
	for i := range batch { // the newest event about a key stands for a cause that cannot be named
		if x := &batch[i]; x.why.Sequence == 0 {
			x.why.Cause = events.CauseOf(events.Event{Sequence: v.Cursor(x.key).Revision})
		}
	}
	decisions := u.ask(v, batch)
	err := v.Err()
	done()
	if err != nil {
		w.fail(Sound, "%s deciding about %s: %v", u.spec.Name, batch[0].key, err)
		return
	}
	if w.rng.IntN(8) == 0 {
		u.askTwice(batch, decisions)
	}
	for i, d := range decisions {
		for _, e := range d.Effects() {
			if !declared(u.spec, e) {
				w.fail(Declared, "%s: effect %s on %s is not among its declared outputs", u.spec.Name, e.Verb, batch[i].key)
				return
			}
		}
	}
	w.decisions++
	t := &task{u: u, batch: batch, decisions: decisions}
	if t.more() {
		u.p.tasks = append(u.p.tasks, t)
	} else {
		t.finish()
	}
}

func (u *unit) ask(v *loop.View, batch []work) (out []loop.Decision) {
	now := u.p.now()
	if b, ok := u.decider.(loop.BatchDecider); ok {
		items := make([]loop.Item, len(batch))
		for i, x := range batch {
			items[i] = loop.Item{Key: x.key, Cause: x.why.Cause}
		}
		return b.DecideAll(v, items, now)
	}
	for _, x := range batch {
		out = append(out, u.decider.Decide(v.With(x.why.Cause), x.key, now))
	}
	return out
}

// askTwice checks that a decision is pure: the same view, decoded anew, gives the same decision.
func (u *unit) askTwice(batch []work, first []loop.Decision) {
	v, done := u.p.viewWith(nil, batch[0].why.Cause)
	defer done()
	second := u.ask(v, batch)
	a, errA := inBytes(first)
	b, errB := inBytes(second)
	if errA != nil || errB != nil || !bytes.Equal(a, b) {
		u.p.w.fail(Pure, "%s decided differently on the same view about %s: %v %v\n%s\n%s", u.spec.Name, batch[0].key, errA, errB, a, b)
	}
}

// inBytes is all of decisions but what they would do about a refusal, which is a function.
func inBytes(decisions []loop.Decision) ([]byte, error) {
	type plain struct {
		Steps []loop.Step
		Again time.Duration
		Park  bool
	}
	var out []plain
	for _, d := range decisions {
		out = append(out, plain{d.Steps, d.Again, d.Park})
	}
	return json.Marshal(out)
}

// declared says whether the spec names the output that an effect writes.
func declared(s loop.Spec, e loop.Effect) bool {
	sub := e.Subresource
	switch e.Verb {
	case loop.UpdateStatus:
		sub = "status"
	case loop.Finalize:
		sub = "finalize"
	}
	return slices.ContainsFunc(s.Outputs, func(o loop.Output) bool {
		return o.Resource == "*" || (o.Group == e.Key.Group && o.Resource == e.Key.Resource && o.Subresource == sub)
	})
}

func (u *unit) String() string { return fmt.Sprintf("%s/%s", u.p.name, u.spec.Name) }
