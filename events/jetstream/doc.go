// Package jetstream is the log on NATS JetStream: an embedded server, the connection to it or to an external
// cluster, the log of events and the volatile log beside it, and the tunnel to nodes over the same
// connection.
//
// It is the only package that imports nats.go and nats-server. It may open network connections and, where a
// server is embedded, the server's directory and one in memory (/dev/shm/orlog-staging-*). It logs nothing
// itself; the embedded server's warnings go to the slog.Logger of [ServerOptions].
//
// How data passes through. Append: each event becomes one message (CloudEvents headers, Nats-Msg-Id = ce-id,
// the guard as Nats-Expected-Last-Subject-Sequence on a wildcard subject). One event is a plain publish,
// several are one atomic batch. The server answers after fdatasync. An answer that never comes, or that says
// "wrong sequence" about an append that may be our own retry, is resolved by reading the log: a guarded
// event, if it is there, is the first one after its guard's sequence.
//
// With one replica, appends of different callers that wait at the same time share a batch (group.go), which a
// server of the same process stages in memory (staging.go). With several, guards are spelled alike for all
// writers of an object (pin.go), as the server tells appends that are under way apart by spelling alone.
//
// Subscribe: an ephemeral, flow-controlled push consumer a subscription. The reader recreates it at its own
// position whenever the connection, the consumer or a message was lost, so the position in the log is the
// only state that counts. Messages wait in the subscription until the reader takes them; the server stops
// sending while the reader does not.
//
// Who may do what. An embedded server may be given users ([Access]): the control plane, one a node, one a
// reader; they may change while it runs ([Server.SetAccess]). With TLS it is demanded of everybody but the
// server's own process, which connects without a network (Options.Server). Each node and reader has a NATS account of its own, into which only the subjects that it may use are
// imported (auth.go says why permissions alone are no barrier); their requests for consumers go through the
// control plane (confine.go). What a client may not do fails with [ErrForbidden], naming the subject. An event
// that came from a node carries the account it came from in the header Nats-Request-Info, set by the server.
//
// Appends are measured, and traced below the traceparent of their first event, where [Options] ask for it.
//
// What JetStream does not promise and this package checks: that the stream was not recreated empty or cut
// short (see [Options]); that a server has loaded each stream that there are files of (loaded.go); that the first
// and the newest event are there; that no sequence is skipped while all subjects are read; that the stream was
// not deleted meanwhile. All fail with events.ErrGap, and say what to do. What stands on the log and is no event,
// a reader gets as one that says so: see events.Read.
//
// A retried append never doubles. A guard refuses it, the server recognises its message ID for two minutes, and
// later than that an append without a guard is looked up before it is tried again (append.go).
package jetstream
