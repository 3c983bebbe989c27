package main

import (
	"cmp"
	"context"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"

	"github.com/orlog-io/orlog/cli/telemetry"
	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/events/lag"
	"github.com/orlog-io/orlog/services/gateway"
	"github.com/orlog-io/orlog/services/notary"
	"github.com/orlog-io/orlog/services/reconcilers/narrator"
)

// observation is what the control plane's parts report to: one registry, one maker of spans.
type observation struct {
	registry *prometheus.Registry
	tracer   trace.TracerProvider // nil: none
	telling  narrator.Place

	traces   *telemetry.Traces
	listener *telemetry.Listener
}

// observe opens what --metrics-listen and --trace-endpoint ask for.
func observe(ctx context.Context, o options, logger *slog.Logger) (*observation, error) {
	listener, err := telemetry.Listen(o.telemetry)
	if err != nil {
		return nil, err
	}
	traces, err := telemetry.OpenTraces(ctx, o.telemetry, "orlogd", o.nodeName, logger)
	if err != nil {
		if listener != nil {
			listener.Close()
		}
		return nil, err
	}
	return &observation{registry: prometheus.NewRegistry(), traces: traces, tracer: traces.Provider(), listener: listener}, nil
}

// follow measures how far everybody who reads the log is behind it.
func (s *observation) follow(stores *stores, logs *logs, signer *notary.Notary) error {
	readers := []lag.Reader{
		{Name: "gateway", Log: logs.log, Position: stores.gateway.Position},
		{Name: "notary", Log: logs.log, Position: func() events.Sequence { c, _ := signer.Checkpoint(); return c.Size }},
		{Name: "volatile", Log: logs.volatile, Position: stores.volatile.Position},
	}
	if stores.reconcilers != nil { // not where this is a gateway only
		readers = append(readers,
			lag.Reader{Name: "scheduler", Log: logs.log, Position: stores.scheduler.Position},
			lag.Reader{Name: "reconcilers", Log: logs.log, Position: stores.reconcilers.Position},
			lag.Reader{Name: "narrator", Log: logs.log, Position: func() events.Sequence {
				// Where another orlogd tells it is as far as one that took over could come.
				return cmp.Or(s.telling.Position(), stores.reconcilers.Position())
			}})
	}
	return s.registry.Register(lag.New(nil, readers...))
}

// serve serves the metrics where --metrics-listen says, until ctx ends.
func (s *observation) serve(ctx context.Context) error {
	return s.listener.Serve(ctx, gateway.AllMetrics(s.registry))
}

// close sends the last spans. The listener ends with serve, or here where that never began.
func (s *observation) close() {
	s.traces.Close()
	if s.listener != nil {
		s.listener.Close()
	}
}
