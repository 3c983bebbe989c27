package jetstream

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	sdk "go.opentelemetry.io/otel/sdk/trace"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/events/tracing"
)

// TestMeasuringAllocatesNothing: appends come by the ten thousand a second.
func TestMeasuringAllocatesNothing(t *testing.T) {
	registry := prometheus.NewRegistry()
	m, err := newMetrics(registry)
	if err != nil {
		t.Fatal(err)
	}
	c := &Conn{metrics: m}
	off, on := measures{}, c.measuresOf("orlog")
	on.tracer = tracing.New(sdk.NewTracerProvider(), "log") // on, but the event belongs to no trace
	entries := []events.Entry{{Event: events.Event{Type: "io.orlog.pod.created"}}}
	for name, m := range map[string]*measures{"off": &off, "on": &on} {
		n := testing.AllocsPerRun(1000, func() {
			span, began := m.began(entries)
			m.wrote(1)
			m.ended(span, began, nil, nil)
		})
		if n != 0 {
			t.Errorf("%s: %v allocations an append", name, n)
		}
	}
}
