package loop_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/events/tracing"
	"github.com/orlog-io/orlog/services/loop"
	"github.com/orlog-io/orlog/services/loop/looptest"
)

const incoming = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

// witness remembers the causes that effects were performed with.
type witness struct {
	performer
	mu     sync.Mutex
	causes []events.Cause
}

func (w *witness) Perform(ctx context.Context, e loop.Effect, why events.Cause) (events.Sequence, error) {
	w.mu.Lock()
	w.causes = append(w.causes, why)
	w.mu.Unlock()
	return w.performer.Perform(ctx, e, why)
}

// observed runs a copier on one ConfigMap that a traced request made, in a loop whose first write fails.
func observed(t *testing.T, o loop.Options) *witness {
	w := looptest.NewWorld(t)
	p := &witness{performer: performer{next: w, fail: []error{fmt.Errorf("too late: %w", events.ErrConflict)}}}
	o.Store = loop.FromProjection(w.Store)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- loop.Run(ctx, o, loop.Bound{Decider: &copier{}, Performer: p}) }()
	defer func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("the loop ended with %v", err)
		}
	}()
	synctest.Wait()
	made := events.Event{Subject: events.Subject{Class: events.Desired, Key: key("a")}, Type: "io.orlog.configmap.created", TraceParent: incoming,
		Source: "test", Actor: "test", UID: "u", Time: looptest.Start,
		Object: []byte(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a","namespace":"default","uid":"u"},"data":{"k":"1"}}`)}
	if _, err := w.Perform(t.Context(), loop.Effect{Verb: loop.AppendEvent, Key: made.Subject.Key, Entry: &events.Entry{Event: made}}, events.Cause{}); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Second)
	synctest.Wait()
	if len(p.causes) != 2 {
		t.Fatalf("%d writes, want one that failed and one that did not", len(p.causes))
	}
	return p
}

func TestATraceTravelsThroughDecisions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, why := range observed(t, loop.Options{Log: slog.New(slog.DiscardHandler)}).causes {
			if why.TraceParent != incoming {
				t.Errorf("with tracing off the trace became %q", why.TraceParent)
			}
		}
	})
	synctest.Test(t, func(t *testing.T) {
		spans := tracetest.NewSpanRecorder()
		p := observed(t, loop.Options{Log: slog.New(slog.DiscardHandler), Tracer: sdk.NewTracerProvider(sdk.WithSpanProcessor(spans))})
		ended := spans.Ended()
		if len(ended) != 2 {
			t.Fatalf("%d spans, want one for each decision that did something", len(ended))
		}
		for i, s := range ended {
			if s.Name() != "decide copier" || s.Parent().SpanID() != tracing.Parse(incoming).SpanID() {
				t.Errorf("span %q below %s: each belongs below the event that caused it", s.Name(), s.Parent().SpanID())
			}
			if got := p.causes[i].TraceParent; got != tracing.Format(s.SpanContext()) {
				t.Errorf("what it wrote carries %s", got)
			}
		}
	})
}

func TestDecisionsAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		registry := prometheus.NewRegistry()
		observed(t, loop.Options{Log: slog.New(slog.DiscardHandler), Registry: registry})
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]float64{}
		for _, f := range families {
			for _, m := range f.GetMetric() {
				name := f.GetName()
				for _, l := range m.GetLabel()[1:] {
					name += " " + l.GetValue()
				}
				got[name] = m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount()) + m.GetGauge().GetValue()
			}
		}
		for name, want := range map[string]float64{"orlog_decisions_total done": 1, "orlog_decisions_total conflict": 1, "orlog_decisions_total failed": 0,
			"orlog_decision_retries_total": 1, "orlog_perform_duration_seconds": 2, "orlog_decide_duration_seconds": 2,
			"orlog_decider_queue_depth": 0, "orlog_decider_queue_delayed": 0, "orlog_decider_queue_parked": 0} {
			if value, has := got[name]; !has || value != want {
				t.Errorf("%s = %v (%t), want %v", name, value, has, want)
			}
		}
	})
}

func TestLinesAboutDecisionsNameObjectSequenceAndCause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		observed(t, loop.Options{Log: slog.New(slog.NewJSONHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))})
		lines := bytes.Split(bytes.TrimSpace(out.Bytes()), []byte("\n"))
		var told []string
		for _, l := range lines {
			var line map[string]any
			if err := json.Unmarshal(l, &line); err != nil {
				t.Fatal(err)
			}
			told = append(told, fmt.Sprint(line["msg"]))
			for name, want := range map[string]any{events.LogObject: "core/configmaps/default/a", events.LogSequence: 1.0, events.LogCause: 1.0,
				events.LogCorrelation: 1.0, events.LogTrace: incoming, "decider": "copier"} {
				if line[name] != want {
					t.Errorf("%q: %s = %v, want %v", line["msg"], name, line[name], want)
				}
			}
		}
		if fmt.Sprint(told) != "[will decide again decided]" {
			t.Errorf("told %v", told)
		}
	})
}
