package sim

import (
	"context"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/events/memlog"
	"github.com/orlog-io/orlog/services/reconcilers"
	"github.com/orlog-io/orlog/services/scheduler"
)

// Options choose a simulation. Equal options give an equal history.
type Options struct {
	Seed uint64
	// Plan says what happens; nil: PlanOf(Seed).
	Plan *Plan
	// Bugs are planted by tests, to see that the invariants notice them.
	Bugs Bugs
}

// Report is what a run that violated nothing was like.
type Report struct {
	// Hash is over every byte of both logs, in hex.
	Hash string
	// Events is how many are on the log, Steps how many steps were taken, Decisions how many of them decided.
	Events, Steps, Decisions int
	// Virtual is how much time passed inside.
	Virtual time.Duration
	// Plan is what was to happen.
	Plan Plan

	story *story
}

// Story is the history as text, a line an event.
func (r *Report) Story() string { return r.story.events() }

// Failure is a violated invariant, or a world that did not come to rest.
type Failure struct {
	Seed uint64
	// Invariant is what was violated; What is wrong in particular, and after which step.
	Invariant Invariant
	What      string
	Step      int
	// Tail is the newest part of the history, of faults and of decisions that failed.
	Tail string
}

func (f *Failure) Error() string {
	return fmt.Sprintf("seed %d, step %d: %s: %s\nthe end of the history:\n%s\nreplay: go test ./services/sim -run TestSeeds -seed=%d", f.Seed, f.Step, f.Invariant, f.What, f.Tail, f.Seed)
}

// action is one step that could be taken.
type action func()

// world is one simulation.
type world struct {
	seed  uint64
	plan  Plan
	bugs  Bugs
	rng   *rand.Rand
	clock clock

	record, heartbeats *record
	api                *api
	processes          []*process
	nodes              []*node
	people             *people
	faults             faults
	rules              *rules
	story              *story

	uids, appends, steps, decisions int
	failure                         *Failure
	actions                         []action // reused
}

// Run runs one simulation. The error is a *Failure.
func Run(o Options) (*Report, error) {
	plan := o.Plan
	if plan == nil {
		p := PlanOf(o.Seed)
		plan = &p
	}
	w := newWorld(o, *plan)
	defer w.close()
	w.run()
	if w.failure != nil {
		return nil, w.failure
	}
	sum := w.heartbeats.sum.Sum(w.record.sum.Sum(nil))
	return &Report{Hash: hex.EncodeToString(sum), Events: len(w.record.events), Steps: w.steps, Decisions: w.decisions,
		Virtual: w.clock.now.Sub(epoch), Plan: w.plan, story: w.story}, nil
}

func newWorld(o Options, plan Plan) *world {
	w := &world{seed: o.Seed, plan: plan, bugs: o.Bugs, rng: rand.New(rand.NewPCG(o.Seed, 0x0710c)), clock: clock{now: epoch}}
	now := func() time.Time { return w.clock.now }
	w.record, w.heartbeats = newRecord(memlog.NewWithClock(now)), newRecord(memlog.NewWithClock(now))
	w.story = newStory(w)
	w.rules = newRules(w)
	w.api = &api{w: w}
	w.people = &people{w: w}
	w.people.setUp()
	w.processes = []*process{
		w.newProcess("scheduler", false, w.appendBindings, scheduler.Scheduler{}),
		w.newProcess("reconcilers", true, w.request, reconcilers.All(reconcilers.Options{RootCA: []byte("bundle")})...),
	}
	for i := range plan.Nodes {
		w.nodes = append(w.nodes, w.newNode(i))
	}
	for i := range plan.Heartbeats {
		w.nodes[i%len(w.nodes)].renew()
	}
	w.people.begin()
	w.faults.begin(w)
	return w
}

func (w *world) close() {
	for _, p := range w.processes {
		p.close()
	}
}

// quiet is for how long nothing may be written before a world counts as at rest.
const quiet = 2 * time.Minute

// longest is how much time may pass inside after the last deed until all is at rest.
const longest = 30 * time.Minute

// maxSteps ends a world that never comes to rest.
const maxSteps = 400_000

func (w *world) run() {
	over := epoch.Add(w.plan.Length + lastRound)
	for w.failure == nil {
		w.step()
		switch {
		case w.clock.now.Before(over) || w.failure != nil:
		case w.atRest() && w.clock.now.Sub(w.record.events[len(w.record.events)-1].Stored) > quiet:
			w.expectEnd()
			return
		case w.clock.now.After(over.Add(longest)) || w.steps > maxSteps:
			w.fail(Converges, "the world does not come to rest: %s", w.unrest())
		}
	}
}

// step does one thing of all that could be done, or lets time pass until something can.
func (w *world) step() {
	w.steps++
	w.actions = w.actions[:0]
	for _, p := range w.processes {
		w.actions = p.actions(w.actions)
	}
	for _, n := range w.nodes {
		w.actions = n.actions(w.actions)
	}
	if len(w.actions) == 0 {
		next := w.clock.next()
		if next == nil {
			w.clock.advance(time.Second)
			return
		}
		w.clock.advance(next.at.Sub(w.clock.now))
		return
	}
	w.actions[w.rng.IntN(len(w.actions))]()
	w.rules.poll()
	w.clock.advance(time.Microsecond + time.Duration(w.rng.Int64N(int64(2*time.Millisecond))))
}

// append appends to a log and lets the rules look at what the log then holds, whatever the writer is told.
func (w *world) append(r *record, entries ...events.Entry) ([]events.Sequence, error) {
	w.appends++
	seqs, err := r.log.Append(context.Background(), entries...)
	for _, e := range r.unseen() {
		prev, next := r.note(e)
		if r == w.record {
			w.story.event(e, prev, next)
			w.rules.see(e, prev, next)
		}
	}
	return seqs, err
}

// fail ends the run with the first thing that is wrong.
func (w *world) fail(invariant Invariant, format string, args ...any) {
	if w.failure == nil {
		w.failure = &Failure{Seed: w.seed, Invariant: invariant, What: fmt.Sprintf(format, args...), Step: w.steps, Tail: w.story.tail()}
	}
}

// tell notes what happens outside the log, for the tail of a failure.
func (w *world) tell(format string, args ...any) { w.story.note(fmt.Sprintf(format, args...)) }
