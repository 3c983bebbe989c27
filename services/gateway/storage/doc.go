// Package storage is upstream's storage.Interface (k8s.io/apiserver) on the log: what the API server takes for
// etcd. Every API write becomes one event, every read comes from the gateway's own projection, and a
// resourceVersion is the sequence of the event that last changed the object.
//
// It may touch the log and the projection that it is given, and nothing else: no files, no network, no
// Kubernetes client.
//
// How a write passes through:
//
//  1. The object arrives (Create, GuaranteedUpdate, Delete) with its storage key, "/pods/<namespace>/<name>",
//     which keys.go turns into an events.Key.
//  2. It is encoded as JSON and compared, in parts, with the newest state that the projection knows
//     (document.go). What differs decides the class of the event: only the status, an observed event; only the
//     rest, a desired one without status; both, a desired one with status. Nothing: no event.
//  3. verbs.go names the event after the request and what changed; changes are recorded as an RFC 6902 patch.
//  4. The event is appended with a guard: the newest event that the decision rested on. Where the guard
//     fails, the projection catches up with the log and everything is decided again, as with etcd.
//  5. The call returns when the local projection has folded the event, with the object as of that event.
//
// How a read passes through: an unconstrained read asks the log for its last sequence and waits until the
// projection is there, so it is consistent however many gateways write. Reads at an exact resourceVersion,
// continue tokens and watches from any past resourceVersion are answered by the multi-version projection and
// never expire. A projection without history (volatile objects) answers those with 410, as etcd does after
// compaction.
//
// [WithSequence] makes the reads of a request travel in time; [WithAttribution] says on whose authority and
// because of what a write happens.
package storage
