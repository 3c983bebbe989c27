// Package projections folds the log into a multi-version object store on Pebble, one private store for each
// reader: the gateway, the scheduler, every reconciler and every node agent keeps its own and reads nobody
// else's. "Now" is only the newest sequence: a store with history answers as of any past one.
//
// How data passes through: [Store.Follow] subscribes to the log just after the store's position and hands
// each batch to [Store.Apply], which folds it (events.Fold), writes rows and position in one Pebble batch,
// and then tells those who wait ([Store.WaitFor]) and those who watch ([Store.Watch]). Readers take a [View]
// ([Store.Now], [Store.At], [Store.AtTime]): a consistent snapshot at exactly one position.
//
// Because position and rows are committed together, a crash can lose only the newest commits, which the log
// delivers again. Nothing here is truth: delete the folder, and it is rebuilt from the log. Never the other
// way round: see [Store.CheckLog] for a log that is behind its own readers.
//
// The rows, by the first byte of their key (keys.go, rows.go):
//
//	m  position, format, the id of the newest event
//	l  live objects as they are now, one row an object: lists of the present read nothing else
//	d  what is known of objects that are gone (sequences only): the cursors of the next compare-and-swap
//	h  versions, newest first: what was overwritten, and each tombstone      (with history)
//	e  every event by sequence: envelope and changes, without the object    (with history)
//	n  live objects by node
//	o  live objects by the uid of each owner
//
// This package is the only importer of Pebble. It imports nothing of Orlog but events.
package projections
