package jetstream_test

import (
	"errors"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/events/jetstream"
	"github.com/orlog-io/orlog/events/tracing"
)

func TestAppendsAreMeasuredAndTraced(t *testing.T) {
	const traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	registry, spans := prometheus.NewRegistry(), tracetest.NewSpanRecorder()
	log := open(t, connect(t, jetstream.Options{URL: start(t).URL(), Name: "measured", Registry: registry,
		Tracer: sdk.NewTracerProvider(sdk.WithSpanProcessor(spans))}))
	entry := func(name string) events.Entry {
		s := events.Subject{Class: events.Desired, Key: events.Key{Resource: "pods", Namespace: "a", Name: name}}
		return events.Entry{Expect: events.ExpectClass(s, 0), Event: events.Event{Subject: s, Type: "io.orlog.pod.created", Source: "test",
			Actor: "test", UID: "u", Time: time.Unix(1, 0), Object: []byte(`{}`)}}
	}
	traced := entry("one")
	traced.Event.TraceParent = traceparent
	if _, err := log.Append(t.Context(), traced); err != nil {
		t.Fatal(err)
	}
	if _, err := log.Append(t.Context(), entry("two"), entry("three")); err != nil {
		t.Fatal(err)
	}
	if _, err := log.Append(t.Context(), entry("one")); !errors.Is(err, events.ErrConflict) {
		t.Fatalf("%v, want a conflict", err)
	}

	counts := map[string]uint64{}
	var carried float64
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			switch f.GetName() {
			case "orlog_append_duration_seconds":
				counts[m.GetLabel()[1].GetValue()] = m.GetHistogram().GetSampleCount()
			case "orlog_append_batch_events":
				carried += m.GetHistogram().GetSampleSum()
			}
		}
	}
	if counts["ok"] != 2 || counts["conflict"] != 1 || counts["unavailable"] != 0 || carried != 4 {
		t.Errorf("appends %v, events written %v", counts, carried)
	}

	ended := spans.Ended()
	if len(ended) != 1 {
		t.Fatalf("%d spans, want one: of the append that belongs to a trace", len(ended))
	}
	s := ended[0]
	if s.Name() != "append io.orlog.pod.created" || s.Parent().SpanID() != tracing.Parse(traceparent).SpanID() {
		t.Errorf("span %q below %s", s.Name(), s.Parent().SpanID())
	}
	sequence := int64(0)
	for _, a := range s.Attributes() {
		if a.Key == tracing.Sequence {
			sequence = a.Value.AsInt64()
		}
	}
	if sequence != 1 {
		t.Errorf("the span names sequence %d", sequence)
	}
}
