package tracing

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/orlog-io/orlog/events"
)

// Attributes of spans, named as events' own.
const (
	Object      = attribute.Key("orlog.object")
	Sequence    = attribute.Key("orlog.sequence")
	Type        = attribute.Key("orlog.type")
	CausedBy    = attribute.Key("orlog.cause")
	Correlation = attribute.Key("orlog.correlation")
	Count       = attribute.Key("orlog.events")
	Name        = attribute.Key("orlog.decider")
	Container   = attribute.Key("orlog.container")
)

// header is the name of the one header that a traceparent is.
const header = "traceparent"

// Tracer makes the spans of one component. The zero Tracer makes none.
type Tracer struct{ tracer trace.Tracer }

// New makes a component's tracer; a nil provider gives the zero Tracer.
func New(provider trace.TracerProvider, component string) Tracer {
	if provider == nil {
		return Tracer{}
	}
	return Tracer{provider.Tracer("github.com/orlog-io/orlog/" + component)}
}

// Traces says whether there would be a span below a traceparent, for callers who would gather its attributes in vain.
func (t Tracer) Traces(traceparent string) bool { return t.tracer != nil && traceparent != "" }

// none is the span of those who make none.
var none trace.Span = noop.Span{}

// Start begins a span below a traceparent, and returns it with the traceparent of what is done within it. Without a
// valid traceparent there is no span: work that nobody's request led to is not traced. at is when the work began
// (zero: now). The span must be ended.
func (t Tracer) Start(traceparent, name string, at time.Time, attrs ...attribute.KeyValue) (trace.Span, string) {
	if !t.Traces(traceparent) {
		return none, traceparent
	}
	parent := Parse(traceparent)
	if !parent.IsValid() {
		return none, traceparent
	}
	options := []trace.SpanStartOption{trace.WithAttributes(attrs...)}
	if !at.IsZero() {
		options = append(options, trace.WithTimestamp(at))
	}
	_, span := t.tracer.Start(trace.ContextWithRemoteSpanContext(context.Background(), parent), name, options...)
	return span, Format(span.SpanContext())
}

// Of are the attributes of work on an object because of an event.
func Of(about events.Key, cause events.Cause) []attribute.KeyValue {
	return []attribute.KeyValue{Object.String(about.String()), CausedBy.Int64(int64(cause.Sequence)), Correlation.Int64(int64(cause.Correlation))}
}

// End ends a span, marked as failed where err is not nil.
func End(span trace.Span, err error) {
	if err != nil {
		span.RecordError(err)
		span.SetStatus(codes.Error, err.Error())
	}
	span.End()
}

// Parse reads a traceparent. What is none gives an invalid SpanContext, as W3C Trace Context has it: a broken trace
// must not break what it is about.
func Parse(traceparent string) trace.SpanContext {
	ctx := propagation.TraceContext{}.Extract(context.Background(), propagation.MapCarrier{header: traceparent})
	return trace.SpanContextFromContext(ctx)
}

// Format writes a traceparent, "" for an invalid SpanContext.
func Format(sc trace.SpanContext) string {
	if !sc.IsValid() {
		return ""
	}
	out := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(trace.ContextWithSpanContext(context.Background(), sc), out)
	return out[header]
}
