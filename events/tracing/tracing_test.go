package tracing

import (
	"errors"
	"testing"
	"time"

	"go.opentelemetry.io/otel/codes"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
)

const (
	incoming = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	unwanted = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"
)

func TestParseAndFormat(t *testing.T) {
	for _, s := range []string{incoming, unwanted} {
		if got := Format(Parse(s)); got != s {
			t.Errorf("%q became %q", s, got)
		}
	}
	for _, s := range []string{"", "x", "00-0-0-01", "00-00000000000000000000000000000000-00f067aa0ba902b7-01"} {
		if got := Format(Parse(s)); got != "" {
			t.Errorf("%q became %q, want none", s, got)
		}
	}
}

func TestOffHandsOn(t *testing.T) {
	var off Tracer
	span, to := off.Start(incoming, "work", time.Time{})
	if span.IsRecording() || to != incoming {
		t.Errorf("recording %t, traceparent %q", span.IsRecording(), to)
	}
	End(span, errors.New("failed"))
	if n := testing.AllocsPerRun(100, func() { off.Start(incoming, "work", time.Time{}) }); n != 0 {
		t.Errorf("a tracer that is off allocates %v times", n)
	}
}

func TestSpansAreBelowTheTraceparent(t *testing.T) {
	spans := tracetest.NewSpanRecorder()
	provider := sdk.NewTracerProvider(sdk.WithSpanProcessor(spans), sdk.WithSampler(sdk.ParentBased(sdk.NeverSample())))
	on := New(provider, "test")
	began := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	first, below := on.Start(incoming, "first", began)
	second, last := on.Start(below, "second", time.Time{})
	End(second, errors.New("broken"))
	End(first, nil)

	ended := spans.Ended()
	if len(ended) != 2 {
		t.Fatalf("%d spans", len(ended))
	}
	trace := Parse(incoming).TraceID()
	for _, s := range ended {
		if s.SpanContext().TraceID() != trace {
			t.Errorf("%s is in another trace", s.Name())
		}
	}
	if s := ended[1]; s.Parent().SpanID() != Parse(incoming).SpanID() || !s.StartTime().Equal(began) {
		t.Errorf("first: parent %s, start %s", s.Parent().SpanID(), s.StartTime())
	}
	if s := ended[0]; s.Parent().SpanID() != ended[1].SpanContext().SpanID() || s.Status().Code != codes.Error || Format(s.SpanContext()) != last {
		t.Errorf("second: parent %s, status %v", s.Parent().SpanID(), s.Status())
	}

	// Who did not ask for it is not recorded, and neither is what no request led to.
	if span, to := on.Start(unwanted, "work", time.Time{}); span.IsRecording() || Parse(to).TraceID() != trace {
		t.Errorf("recording %t, traceparent %q", span.IsRecording(), to)
	}
	if span, to := on.Start("", "work", time.Time{}); span.IsRecording() || to != "" {
		t.Errorf("recording %t, traceparent %q", span.IsRecording(), to)
	}
}
