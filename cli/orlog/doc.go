// Command orlog is the operator's tool: every kubectl command under Orlog's own root, and beside them what
// only a log can answer (history, why, tail, --at) and what a node needs (image).
//
// It reads and writes the cluster through the gateway alone. Two global flags reach every command, as
// changes of the request on its way out: --at moves reads to a past moment, --reason sends a person's words
// along with a write, to stand in the event for ever.
package main
