package gateway

import (
	"context"
	"net/http"

	"go.opentelemetry.io/otel/trace"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/events/tracing"
)

// sharedTracer is a provider that upstream may use, but not end: it is the caller's.
type sharedTracer struct{ trace.TracerProvider }

// Shutdown implements upstream's TracerProvider.
func (sharedTracer) Shutdown(context.Context) error { return nil }

// traceOf is the trace that what a request writes belongs to, as a traceparent. With tracing on it is upstream's
// span of the request; upstream lets it continue the client's trace where the client is privileged, and links to it
// otherwise, so that nobody can have everything traced. With tracing off the client's own trace is passed on. A
// request that names no trace but a cause carries on the cause's.
func (g *Gateway) traceOf(r *http.Request, cause events.Sequence) string {
	came := tracing.Format(tracing.Parse(r.Header.Get(headerTraceParent)))
	if came == "" && cause != 0 {
		// An error is the store's end, or a past that is not kept: then there is no trace to carry on.
		if e, found, err := g.settings.Store.EventAt(cause); err == nil && found && e.TraceParent != "" {
			return e.TraceParent
		}
	}
	if g.settings.Tracer == nil {
		return came
	}
	return tracing.Format(trace.SpanContextFromContext(r.Context()))
}
