// Package loop is the one consumer loop of the control plane: it follows a projection, marks keys dirty,
// asks a pure [Decider] what to do about each, performs the effects, and retries what was refused.
//
// How data passes through:
//
//	Store.Watch -> Change -> Input.Keys -> queue (deduplicated, per-key backoff) -> Decide(view, key, now)
//	            -> Decision -> Performer -> the log -> the same Store
//
// A decider sees only a [View]: the projection at one sequence and the cause that dirtied the key. It has no
// clock, no randomness and does no I/O, so the same function runs in production, in the simulator and in a
// replay. Objects that a View hands out are shared: deep-copy before editing.
//
// The loop keeps three promises that deciders build on:
//   - one key of a decider is decided by one goroutine at a time;
//   - a decision never acts on a view that lacks the decider's own last writes for that key (Spec.Serial:
//     for any key), which is what other systems need "expectations" for;
//   - every effect carries the event that led to it, with its trace ([events.CauseOf]).
//
// What it does shows in metrics (metrics.go: time to decide, outcomes, queues), in spans below the trace of the cause
// (trace.go) and in log lines that name object, cause and the sequence that was decided at.
//
// It may touch the projections (through [Store]), the gateway (through [REST]) and the log (through
// [Append]). What it knows besides the projection (backoffs, parked keys) may be lost at any time: after a
// restart every object is marked dirty once.
package loop
