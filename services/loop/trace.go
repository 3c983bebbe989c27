package loop

import (
	"context"
	"log/slog"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/events/tracing"
)

// traced begins the span of a decision that asks for something: what it does belongs below. The span covers deciding
// and acting, since began. It returns the work as it is to be performed; w itself keeps the cause's own traceparent,
// for when it is decided again.
func (u *unit) traced(w work, d Decision, began time.Time) (trace.Span, work) {
	if len(d.Steps) == 0 || !u.tracer.Traces(w.why.TraceParent) {
		return nil, w
	}
	attrs := append(tracing.Of(w.key, w.why.Cause), tracing.Name.String(u.spec.Name), tracing.Sequence.Int64(int64(w.view)))
	span, below := u.tracer.Start(w.why.TraceParent, "decide "+u.spec.Name, began, attrs...)
	w.why.TraceParent = below
	return span, w
}

// finish notes what became of a decision: in its span, in the metrics, in the log.
func (u *unit) finish(ctx context.Context, span trace.Span, w work, d Decision, err error) {
	if span != nil {
		tracing.End(span, err)
	}
	u.measures.became(outcomeOf(d, err))
	if err == nil && len(d.Steps) > 0 && u.log.Enabled(ctx, slog.LevelDebug) {
		u.log.LogAttrs(ctx, slog.LevelDebug, "decided", w.attrs(), slog.Int("effects", len(d.Effects())))
	}
}

// attrs describe a decision in a log line: what about, because of what, and at which sequence of the log.
func (w work) attrs() slog.Attr {
	return slog.Group("", w.why.LogAttrs(w.key), slog.Uint64(events.LogSequence, uint64(w.view)))
}
