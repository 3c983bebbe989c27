// Package events is Orlog's vocabulary: what an event is, what it is about, who caused it, how a log of
// events is written and read, and how events fold into the state of an object.
//
// The package itself depends on the standard library alone, does no I/O and reads no clock, so that every other room (the
// gateway, the projections, the scheduler, the reconcilers, the node agents, the simulator) can share it.
//
// How data passes through: a writer builds an [Event] and hands it, with what it believes to be the newest
// event about the same object ([Expect]), to [Log.Append]. The log gives it a [Sequence], which is also the
// Kubernetes resourceVersion. Every reader receives the same events in the same order from [Log.Subscribe]
// and calls [Fold] for itself. State at sequence n is the fold of events 1..n; nothing else is state.
package events
