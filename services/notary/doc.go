// Package notary makes the log provable: an RFC 6962 Merkle tree over every event in sequence order, whose
// root it signs about once a second. With a signed checkpoint in hand, kept away from the server, anybody can
// check that an event was in the log ([Verify]), that a later log continues it unchanged
// ([VerifyConsistency]), or that a whole log is still the one that was signed ([Audit]).
//
// How data passes through: [Notary.Run] reads all subjects of the log from where the tree ends. Each event
// becomes a leaf (leaf.go: sequence, subject, headers, payload), each leaf one or more hashes in a file that
// only grows (hashes.go). While there is something new, once a second or every few thousand events, the file
// is synced, and only then is the tree's new root signed and put in place of the former one (checkpoint.go,
// notary.go).
//
// Hence the crash story: the signed checkpoint is the position. Hashes past it are cut off at start-up and
// made again from the log. Where the file does not lead to the signed root, it is made anew from the log,
// and the log must arrive at the same root: if it does not, the log was altered, and the notary says so
// ([ErrTampered]) and signs nothing more.
//
// In the folder: key (Ed25519, mode 0600), key.pub (to give away), checkpoint (a signed note, see
// golang.org/x/mod/sumdb/note and c2sp.org/tlog-checkpoint), hashes.
//
// The package imports events and the tree and note formats of golang.org/x/mod, neither NATS nor Pebble.
package notary
