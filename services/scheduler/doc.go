// Package scheduler decides which node runs which pod, and says why not the others.
//
// How data passes through: the loop hands [Scheduler.DecideAll] a batch of pending pods and a view of the
// log. snapshot.go sums up, for each node, what is allocatable and what bound pods request; filters.go (with
// affinity.go and spread.go) refuse nodes in upstream's terms; scores.go ranks the rest; every pod that is
// placed counts for the pods after it. events.go turns the outcome into one event a pod: io.orlog.pod.bound,
// or io.orlog.pod.unschedulable with the message that kubectl describe shows, guarded by the newest event
// about the pod, with the decision record ([Record]) as its reason.
//
// For a pod that fits nowhere preempt.go looks for the node on which it would if pods of lower priority went,
// and keeps the room that this makes; perform.go makes them go. Facts are appended to the log, the requests to
// delete a victim, and to tell it why, go through the gateway.
//
// It is pure but for Run. It never double-books: the loop decides the next batch only on a view that holds
// all bindings of the last. It reads nodes, pods, namespaces and disruption budgets.
package scheduler
