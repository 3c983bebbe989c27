package sim

import (
	"fmt"
	"slices"
	"time"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/services/loop"
)

// process is a component that runs deciders on projections of its own, as scheduler.Run and reconcilers.Run
// do.
type process struct {
	w        *world
	name     string
	deciders []loop.Decider
	perform  performer
	main     *projection
	volatile *projection // nil where no decider needs it

	cache   *loop.Cache
	units   []*unit
	tasks   []*task
	skew    time.Duration // of its clock
	up      bool
	started bool
	// from are the ends of the logs when the process came up: it decides nothing before it knows that much.
	from, fromVolatile events.Sequence
}

// performer carries out effects of a decider. batch: all in one append.
type performer func(u *unit, effects []loop.Effect, causes []events.Cause) []loop.Result

func (w *world) newProcess(name string, volatile bool, perform performer, deciders ...loop.Decider) *process {
	if w.bugs.Decider != nil {
		for i, d := range deciders {
			deciders[i] = w.bugs.Decider(d)
		}
	}
	p := &process{w: w, name: name, deciders: deciders, perform: perform, main: w.openProjection(name, w.record)}
	if volatile {
		p.volatile = w.openProjection(name+"/volatile", w.heartbeats)
	}
	p.start()
	return p
}

// now is what the process' clock says.
func (p *process) now() time.Time { return p.w.clock.now.Add(p.skew) }

// setClock makes the clock wrong by skew. Timers are not concerned: they run on monotonic time.
func (p *process) setClock(skew time.Duration) {
	p.w.tell("the clock of %s jumps by %s", p.name, skew-p.skew)
	p.skew = skew
	p.w.rules.clockJumped()
}

// start brings the process up. It begins to decide when it has caught up.
func (p *process) start() {
	p.up, p.started = true, false
	p.from, p.fromVolatile = p.w.record.last(), p.w.heartbeats.last()
	p.cache = loop.NewCache(0)
	p.units, p.tasks = nil, nil
	for _, d := range p.deciders {
		p.units = append(p.units, newUnit(p, d))
	}
}

// crash ends the process: whatever is not on the log or in the projections is lost. Now and then the
// projections are lost too.
func (p *process) crash(downFor time.Duration, loseDisk bool) {
	for _, u := range p.units {
		u.close()
	}
	p.up, p.units, p.tasks = false, nil, nil
	for _, s := range p.projections() {
		s.unwatch()
		if loseDisk {
			s.reopen()
		}
	}
	p.w.clock.after(downFor, func() {
		p.w.tell("%s is back", p.name)
		p.start()
	})
}

func (p *process) projections() []*projection {
	if p.volatile == nil {
		return []*projection{p.main}
	}
	return []*projection{p.main, p.volatile}
}

func (p *process) close() {
	for _, s := range p.projections() {
		s.close()
	}
}

// actions lists what the process could do next.
func (p *process) actions(out []action) []action {
	if !p.up {
		return out
	}
	for _, s := range p.projections() {
		if s.behind() {
			out = append(out, s.deliver)
		}
		if s.news() {
			out = append(out, func() { p.dispatch(s.changes(), s == p.volatile) })
		}
	}
	if !p.started {
		if p.main.position() >= p.from && (p.volatile == nil || p.volatile.position() >= p.fromVolatile) {
			out = append(out, p.begin)
		}
		return out
	}
	for _, u := range p.units {
		if u.ready() {
			out = append(out, u.decide)
		}
	}
	for _, t := range p.tasks {
		out = append(out, t.act)
	}
	return out
}

// idle says whether nothing waits to be done but on a timer.
func (p *process) idle() bool {
	if !p.up || !p.started || len(p.tasks) > 0 {
		return false
	}
	for _, s := range p.projections() {
		if s.position() < s.record.last() || s.news() {
			return false
		}
	}
	return !slices.ContainsFunc(p.units, func(u *unit) bool { return len(u.dirty) > 0 })
}

// begin presents every living object as a change, as the loop does when it starts.
func (p *process) begin() {
	p.started = true
	for _, s := range p.projections() {
		s.watch()
		now := loop.ReaderOf(s.store.Now())
		var all []loop.Change
		for st, err := range now.All("") {
			if err != nil {
				p.w.fail(Sound, "%s: reading the projection: %v", p.name, err)
				break
			}
			e := events.Event{Sequence: st.Revision, UID: st.UID, Subject: events.Subject{Class: events.Desired, Key: st.Key, Node: st.Node}}
			all = append(all, loop.Change{Event: e, Next: st})
		}
		now.Close()
		p.dispatch(all, s == p.volatile)
	}
}

// dispatch marks dirty what changes concern.
func (p *process) dispatch(changes []loop.Change, volatile bool) {
	if len(changes) == 0 {
		return
	}
	v, done := p.view(events.Cause{})
	defer done()
	for _, c := range changes {
		if c.Next.Revision == c.Prev.Revision && c.Prev.Revision != 0 {
			continue
		}
		for _, u := range p.units {
			u.mark(v, c, volatile)
		}
	}
	if err := v.Err(); err != nil {
		p.w.fail(Sound, "%s: reading a change: %v", p.name, err)
	}
}

// view opens a view of now.
func (p *process) view(why events.Cause) (*loop.View, func()) {
	return p.viewWith(p.cache, why)
}

func (p *process) viewWith(cache *loop.Cache, why events.Cause) (*loop.View, func()) {
	log := loop.ReaderOf(p.main.store.Now())
	if p.volatile == nil {
		return loop.NewView(log, nil, cache, why), log.Close
	}
	volatile := loop.ReaderOf(p.volatile.store.Now())
	return loop.NewView(log, volatile, cache, why), func() { volatile.Close(); log.Close() }
}

// busyWith says whether a decision about the decider's key is under way.
func (p *process) busyWith(decider string, wanted func(events.Key) bool) bool {
	return slices.ContainsFunc(p.tasks, func(t *task) bool {
		return t.u.spec.Name == decider && slices.ContainsFunc(t.batch, func(x work) bool { return wanted(x.key) })
	})
}

func (p *process) String() string { return fmt.Sprintf("process %s", p.name) }
