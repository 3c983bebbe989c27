// Package memlog is the log in memory: an [events.Log] for tests and for the simulator, with fault points
// for everything that a real log does to its writers (refuse, persist and then fail to say so, be slow) and
// to its readers (be late).
//
// It depends on events alone, starts no goroutine, draws no random number and reads no clock but the one it
// is given, so that it runs in a testing/synctest bubble and in a seeded simulation.
//
// How data passes through: Append encodes each event as the wire would carry it and keeps what decoding
// gives back, so that a reader sees exactly what it would see on the real log. Subscriptions read the kept
// slice by position; an append wakes all of them.
package memlog
