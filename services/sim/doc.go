// Package sim runs the whole control plane in one process, on one seed, in virtual time, with faults, and
// checks at every step what must never be otherwise. The same seed gives the same history, byte for byte.
//
// What is real: the deciders of the scheduler and of all reconcilers (their Spec and Decide), the typed
// views of services/loop, the log (events/memlog) with its compare-and-swap, and every component's
// projection (projections.Store). What is played: the gateway (api*.go: admission's defaults, generations,
// graceful deletion, finalizers, and the guards that services/gateway/storage appends under), the nodes
// (node*.go), the people (people.go) and what goes wrong (faults.go).
//
// The loop of services/loop is not run as it is. Its goroutines race by design: which worker goes on first
// after a wake-up is the Go scheduler's choice, in a testing/synctest bubble too, so that one seed would give
// many histories. unit.go and task.go keep the loop's promises instead (a key is decided by one at a time,
// never on a view without the decider's own writes, effects in batches that double, backoff, parking) in
// single steps, and the seed picks the next step of all that could be taken: deliver events to a projection,
// present changes to the deciders, decide a key, perform one effect of a decision under way, let a node act.
// Between two steps the clock moves a little; where nothing can be done it jumps to the next timer.
//
// What goes wrong (Plan.Faults; each is absent from some seeds and heavy in others): appends that fail before or
// after they are persisted, a log that answers nobody for a while, requests that are lost or whose answer is,
// conflicts, single and in storms; projections that get no events for a while, or some of them twice;
// components that crash, also between a write and their memory of it, and lose their disk with it; clocks that
// jump; containers, agents and machines that fail, come back, or come back empty.
//
// What must hold is in violation.go, a name for each: [Converges], [BoundOnce], [NoOvercommit], [Availability] and
// so on. A test plants bugs ([Bugs]) in deciders, agents and deliveries, and expects each to be noticed under its
// invariant's name.
//
// How data passes through: [Run] builds a world (world.go) from the seed, steps it until the people and the
// faults are done, and then until nothing changes any more. record.go folds the log by itself, as the
// yardstick of all projections; invariants.go and rollout.go look at each event as it is appended; end.go
// says whether all has come to rest where it should. A violation ends the run with a [Failure], which names the
// invariant and tells the seed and the newest part of the history (story.go).
package sim
