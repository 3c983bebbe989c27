// Package durability kills the real orlogd (kill -9) again and again under writers, and then compares what they
// were told with what is on the log: nothing acknowledged is lost, nothing is there that nobody asked for,
// nothing is there twice, and every projection and the notary's tree are those of the log. It carries the
// build tag "system"; it needs no root and no node.
//
// How data passes through: each writer notes every attempt, marked with a token of its own, before it sends
// it, and every answer. After the last kill orlogd is stopped, its folder is opened as orlogd opens it, and
// the notes, the log, the projections and the notary are held against each other.
//
// ORLOG_KILLS is how many kills (default 12), ORLOG_KILL_SEED what decides when they fall (default 1). The
// long run is deploy/checks/kills.
package durability
