// Package logtest is the suite that every [events.Log] must pass: what a writer may count on (guards,
// atomicity, retries) and what a reader may count on (order, completeness, patterns, an end).
//
// It depends on events and testing alone. How data passes through: the caller gives a function that opens an
// empty log; each subtest opens its own, appends small histories about invented pods, and compares what the
// log gives back.
package logtest
