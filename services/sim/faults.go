package sim

import (
	"errors"
	"fmt"
	"time"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/events/memlog"
)

// faults is what goes wrong between the components, as often as the plan says, until it is over.
type faults struct {
	w *world
	// outage: until then the log answers nobody, but may do what it is asked.
	outage time.Time
	// storm: until then somebody is faster every other time.
	storm time.Time
}

var errInjected = errors.New("injected")

func isUnavailable(err error) bool { return errors.Is(err, events.ErrUnavailable) }

func (f *faults) begin(w *world) {
	f.w = w
	for _, r := range []*record{w.record, w.heartbeats} {
		r.log.Inject(func([]events.Entry) memlog.Fault { return f.ofAppend() })
	}
	f.each(w.plan.Faults.Outages, func() {
		d := f.between(50*time.Millisecond, 3*time.Second)
		f.outage = w.clock.now.Add(d)
		w.tell("the log is unavailable for %s", d)
	})
	f.each(w.plan.Faults.Delays, func() {
		p := w.processes[w.rng.IntN(len(w.processes))]
		s := p.projections()[w.rng.IntN(len(p.projections()))]
		d := f.between(10*time.Millisecond, 10*time.Second)
		s.heldUntil = w.clock.now.Add(d)
		w.clock.after(d, func() {}) // so that time does not jump over the end
		w.tell("%s gets no events for %s", s.name, d)
	})
	f.each(w.plan.Faults.Restarts, func() {
		if p := w.processes[w.rng.IntN(len(w.processes))]; p.up {
			f.crash(p)
		}
	})
	f.each(w.plan.Faults.Storms, func() {
		d := f.between(100*time.Millisecond, 5*time.Second)
		f.storm = w.clock.now.Add(d)
		w.tell("a storm of conflicts for %s", d)
	})
	f.clocks()
	f.nodes()
}

// mostSkew is how wrong a component's clock may be: less than a node may be silent, for else the nodes and
// those who watch over them would contradict each other until the clock is right.
const mostSkew = 30 * time.Second

// clocks lets the clocks of the components jump; in the end they are right again.
func (f *faults) clocks() {
	if f.w.plan.Faults.Clocks == 0 {
		return
	}
	f.each(f.w.plan.Faults.Clocks, func() {
		f.w.processes[f.w.rng.IntN(len(f.w.processes))].setClock(f.between(-mostSkew, mostSkew))
	})
	f.w.clock.after(f.w.plan.Length, func() {
		for _, p := range f.w.processes {
			p.setClock(0)
		}
	})
}

// crash ends a component for a while.
func (f *faults) crash(p *process) {
	d, lost := f.between(time.Millisecond, 5*time.Second), f.w.rng.IntN(4) == 0
	f.w.tell("%s crashes (disk lost: %t), %d decisions under way, back in %s", p.name, lost, len(p.tasks), d)
	p.crash(d, lost)
}

// nodes lets containers, agents and machines fail.
func (f *faults) nodes() {
	w := f.w
	f.each(w.plan.Faults.Containers, func() {
		n := w.nodes[w.rng.IntN(len(w.nodes))]
		if !n.agent || len(n.pods) == 0 {
			return
		}
		if r := n.pods[w.rng.IntN(len(n.pods))]; w.rng.IntN(5) == 0 {
			w.tell("%s: %s fails for good", n.name, r.key)
			r.fail()
		} else {
			w.tell("%s: a container of %s ends", n.name, r.key)
			r.crash()
		}
	})
	f.each(w.plan.Faults.Machines, func() {
		n := w.nodes[w.rng.IntN(len(w.nodes))]
		switch w.rng.IntN(5) {
		case 0:
			n.machineDown(f.between(5*time.Second, 30*time.Second)) // a reboot
		case 1:
			n.machineDown(f.between(time.Minute, 8*time.Minute)) // long enough to evict its pods
		case 2:
			n.replaced(f.between(5*time.Second, 2*time.Minute))
		default:
			n.agentDown(f.between(time.Second, 90*time.Second))
		}
	})
}

// over says whether the time of faults has passed.
func (f *faults) over() bool { return f.w == nil || !f.w.clock.now.Before(epoch.Add(f.w.plan.Length)) }

// each has do done about every mean, at random; 0: never.
func (f *faults) each(mean time.Duration, do func()) {
	if mean == 0 {
		return
	}
	f.w.clock.after(f.between(0, 2*mean), func() {
		if f.over() {
			return
		}
		do()
		f.each(mean, do)
	})
}

func (f *faults) between(least, most time.Duration) time.Duration {
	return least + time.Duration(f.w.rng.Int64N(int64(most-least)+1))
}

// hits says whether something with a chance of one in n happens now.
func (f *faults) hits(n int) bool { return n > 0 && !f.over() && f.w.rng.IntN(n) == 0 }

// ofAppend decides the fault of one append: refused, or done without saying so.
func (f *faults) ofAppend() memlog.Fault {
	if !(f.w.clock.now.Before(f.outage) && !f.over()) && !f.hits(f.w.plan.Faults.Append) {
		return memlog.Fault{}
	}
	if f.w.rng.IntN(2) == 0 {
		f.w.tell("an append fails before it is persisted")
		return memlog.Fault{Before: errInjected}
	}
	f.w.tell("an append is persisted, but its writer gets an error")
	return memlog.Fault{After: errInjected}
}

// beforeRequest fails a request to the gateway before anything is done.
func (f *faults) beforeRequest() error {
	if err := f.conflict(); err != nil {
		return err
	}
	if f.hits(f.w.plan.Faults.Request) {
		return fmt.Errorf("connection refused: %w: %w", events.ErrUnavailable, errInjected)
	}
	return nil
}

// conflict has somebody else be faster than a writer.
func (f *faults) conflict() error {
	stormy := f.w.clock.now.Before(f.storm) && !f.over() && f.w.rng.IntN(2) == 0
	if stormy || f.hits(f.w.plan.Faults.Conflict) {
		return fmt.Errorf("somebody was faster: %w: %w", events.ErrConflict, errInjected)
	}
	return nil
}

// crashes says whether a writer crashes now that its write is on the log and in nobody's memory.
func (f *faults) crashes() bool { return f.hits(f.w.plan.Faults.Crashes) }

// again is where a delivery begins that would go on after a position: now and then a little earlier.
func (f *faults) again(after events.Sequence) events.Sequence {
	if after == 0 || !f.hits(f.w.plan.Faults.Duplicates) {
		return after
	}
	return after - events.Sequence(1+f.w.rng.IntN(min(int(after), 10)))
}

// afterRequest loses the gateway's answer to a request that was carried out.
func (f *faults) afterRequest() error {
	if f.hits(f.w.plan.Faults.Request) {
		f.w.tell("the gateway's answer is lost")
		return fmt.Errorf("connection reset: %w: %w", events.ErrUnavailable, errInjected)
	}
	return nil
}
