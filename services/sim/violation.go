package sim

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/services/loop"
)

// Invariant names something that must hold in every simulation.
type Invariant string

// The invariants. Each has a test that plants a bug and sees it noticed.
const (
	// Converges: when people and faults are done, everything comes to rest where people want it.
	Converges Invariant = "converges"
	// BoundOnce: a pod that has a node keeps it, and runs nowhere else.
	BoundOnce Invariant = "no pod is bound twice"
	// NoOvercommit: what is bound to a node fits on it.
	NoOvercommit Invariant = "no node is overcommitted"
	// Availability, Ceiling and NoOverlap are what a Deployment's strategy promises: see family.
	Availability Invariant = "rolling updates keep pods available"
	Ceiling      Invariant = "rolling updates stay below their ceiling"
	NoOverlap    Invariant = "a Recreate runs no two templates at once"
	// SameHistory: equal options give equal logs, byte for byte.
	SameHistory Invariant = "same seed, same history"
	// Pure: a decider that is asked twice about the same view says the same twice.
	Pure Invariant = "decisions are pure"
	// Caused: what the control plane does names an earlier event as its cause.
	Caused Invariant = "every deed names its cause"
	// Declared: deciders write nothing but their declared outputs.
	Declared Invariant = "effects are declared"
	// OneController: no object has two controllers.
	OneController Invariant = "one controller"
	// Folded: a projection holds at each position what the log makes of it.
	Folded Invariant = "projections agree with the log"
	// Sound: what was written can be read and the parts played here keep working.
	Sound Invariant = "nothing breaks"
)

// Bugs are what tests plant; nil: none. They must be as deterministic as what they replace, unless that is
// the bug.
type Bugs struct {
	// Decider returns what decides in place of a decider.
	Decider func(loop.Decider) loop.Decider
	// Agent spoils what an agent is about to report about a pod.
	Agent func(node string, status *corev1.PodStatus)
	// Delivery spoils an event on its way into a projection.
	Delivery func(projection string, e events.Event) events.Event
	// Cause spoils the cause that a request carries.
	Cause func(events.Cause) events.Cause
	// Elsewhere: agents run the pods of other nodes too.
	Elsewhere bool
}

// Twice runs a simulation twice and returns the first report; a *Failure where the histories differ.
func Twice(o Options) (*Report, error) {
	a, err := Run(o)
	if err != nil {
		return nil, err
	}
	b, err := Run(o)
	if err != nil {
		return nil, err
	}
	if a.Hash != b.Hash {
		return nil, &Failure{Seed: o.Seed, Invariant: SameHistory, What: "another run of the same options went another way", Step: min(a.Steps, b.Steps),
			Tail: firstDifference(a.Story(), b.Story())}
	}
	return a, nil
}
