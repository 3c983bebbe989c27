// Package outbox carries a node's observations to the log, whatever the state of the log.
//
// How data passes through: the agent calls [Outbox.Put] with the whole new status of an object; it is in the
// journal on disk before Put returns. One sender per object appends the reports in order, as observed events
// guarded by the newest observed event about the object. While the log is unreachable the journal grows only by
// what may not be lost (a container started or ended): any other report gives way to a newer one about the same
// object. An append that lost against another writer's is merged with that writer's part of the status and tried
// again. What was appended is struck out in the journal; a restart sends the rest, with the same event IDs.
//
// It touches the journal in its folder and the log, nothing else.
package outbox
