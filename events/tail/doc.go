// Package tail lets the readers of one process share what they all read: the newest events of a log.
//
// Each service keeps a projection of its own, so a process of several services would have every event sent to it, and
// decode it, several times. Through a [Log] one subscription serves all readers that are at the end. A reader that is
// further behind has a subscription of its own until it has come there. What a reader gets, and in what order, does
// not depend on that.
package tail
