// Package tracing makes OpenTelemetry spans of what happens because of events.
//
// A trace travels with the events themselves: each carries a W3C traceparent, in its header on the log. Whoever
// acts on an event asks a [Tracer] for a span below the event's traceparent, and writes the span's own traceparent
// into the events that it causes. So one trace runs from a person's request through every reconciler to the
// container's start, over any number of processes, without a context passed between them.
//
// The zero Tracer makes no spans and hands the traceparent on as it came, for next to nothing: with tracing off, a
// trace that a client began still arrives at the last event. Who makes the spans' provider (exporter, sampling) is
// the binaries' affair.
package tracing
