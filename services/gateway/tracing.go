package gateway

import (
	"context"
	"net/http"

	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel/trace"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/events/tracing"
)

// sharedTracer is a provider that upstream may use, but not end: it is the caller's.
type sharedTracer struct{ trace.TracerProvider }

// Tracer implements trace.TracerProvider.
func (t sharedTracer) Tracer(name string, o ...trace.TracerOption) trace.Tracer {
	inner := t.TracerProvider.Tracer(name, o...)
	if name == otelhttp.ScopeName {
		return requestTracer{inner}
	}
	return inner
}

// requestTracer makes the spans of requests, and keeps each in the request's context: by the time that the storage is
// reached, the current span is that of some filter which has ended.
type requestTracer struct{ trace.Tracer }

type requestSpanKey struct{}

// Start implements trace.Tracer.
func (t requestTracer) Start(ctx context.Context, name string, o ...trace.SpanStartOption) (context.Context, trace.Span) {
	ctx, span := t.Tracer.Start(ctx, name, o...)
	return context.WithValue(ctx, requestSpanKey{}, span.SpanContext()), span
}

// Shutdown implements upstream's TracerProvider.
func (sharedTracer) Shutdown(context.Context) error { return nil }

// traceOf is the trace that what a request writes belongs to, as a traceparent. With tracing on it is upstream's
// span of the request; upstream lets it continue the client's trace where the client is privileged, and links to it
// otherwise, so that nobody can have everything traced. With tracing off the client's own trace is passed on. A
// request that names no trace but a cause carries on the cause's.
func (g *Gateway) traceOf(r *http.Request, cause events.Sequence) string {
	came := r.Header.Get(headerTraceParent)
	if came != "" {
		came = tracing.Format(tracing.Parse(came))
	}
	if came == "" && cause != 0 {
		// An error is the store's end, or a past that is not kept: then there is no trace to carry on.
		if e, found, err := g.settings.Store.EventAt(cause); err == nil && found && e.TraceParent != "" {
			return e.TraceParent
		}
	}
	if g.settings.Tracer == nil {
		return came
	}
	span, _ := r.Context().Value(requestSpanKey{}).(trace.SpanContext)
	return tracing.Format(span)
}
