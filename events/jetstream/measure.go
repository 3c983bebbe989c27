package jetstream

import (
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/events/tracing"
)

// outcomes of an append, as metrics name them.
const (
	appended    = "ok"
	conflicted  = "conflict"
	unavailable = "unavailable"
	invalid     = "invalid"
	failed      = "error"
)

// measures are the metrics and spans of one stream's appends. The zero measures measure nothing.
type measures struct {
	seconds map[string]prometheus.Observer // by outcome; made beforehand, so that an append looks up no labels
	batch   prometheus.Observer
	tracer  tracing.Tracer
}

// metrics are those of a connection, one label value a stream; nil without a registry.
type metrics struct {
	seconds, batch *prometheus.HistogramVec
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	if r == nil {
		return nil, nil
	}
	m := &metrics{
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: "orlog", Name: "append_duration_seconds",
			Help:    "How long appends to the log took until they were durable, or failed, retries included, by stream and outcome.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 15)}, []string{"log", "outcome"}),
		batch: prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: "orlog", Name: "append_batch_events",
			Help:    "How many events each write to the log carried: appends that wait at the same time share one.",
			Buckets: prometheus.ExponentialBuckets(1, 2, 11)}, []string{"log"}),
	}
	if err := errors.Join(r.Register(m.seconds), r.Register(m.batch)); err != nil {
		return nil, fmt.Errorf("metrics of the log: %w", err)
	}
	return m, nil
}

// measuresOf are a stream's.
func (c *Conn) measuresOf(name string) measures {
	m := measures{tracer: tracing.New(c.opts.Tracer, "log")}
	if c.metrics == nil {
		return m
	}
	m.seconds = map[string]prometheus.Observer{}
	for _, outcome := range []string{appended, conflicted, unavailable, invalid, failed} {
		m.seconds[outcome] = c.metrics.seconds.WithLabelValues(name, outcome)
	}
	m.batch = c.metrics.batch.WithLabelValues(name)
	return m
}

func (m *measures) wrote(events int) {
	if m.batch != nil {
		m.batch.Observe(float64(events))
	}
}

// began starts the span of an append, below the trace that its first event belongs to.
func (m *measures) began(entries []events.Entry) (span trace.Span, began time.Time) {
	traced := len(entries) > 0 && m.tracer.Traces(entries[0].Event.TraceParent)
	if m.seconds != nil || traced {
		began = time.Now()
	}
	if !traced {
		return nil, began
	}
	e := &entries[0].Event
	span, _ = m.tracer.Start(e.TraceParent, "append "+e.Type, began, tracing.Object.String(e.Subject.Key.String()),
		tracing.Type.String(e.Type), tracing.Count.Int(len(entries)))
	return span, began
}

func (m *measures) ended(span trace.Span, began time.Time, seqs []events.Sequence, err error) {
	if m.seconds != nil {
		m.seconds[outcomeOf(err)].Observe(time.Since(began).Seconds())
	}
	if span == nil {
		return
	}
	if len(seqs) > 0 {
		span.SetAttributes(tracing.Sequence.Int64(int64(seqs[0])))
	}
	tracing.End(span, err)
}

func outcomeOf(err error) string {
	switch {
	case err == nil:
		return appended
	case errors.Is(err, events.ErrConflict):
		return conflicted
	case errors.Is(err, events.ErrUnavailable):
		return unavailable
	case errors.Is(err, events.ErrInvalid):
		return invalid
	}
	return failed
}
