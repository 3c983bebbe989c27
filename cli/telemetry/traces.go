package telemetry

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/orlog-io/orlog/events"
)

// flushTime bounds how long the last spans are waited for at the end.
const flushTime = 3 * time.Second

// Traces sends spans to a collector. The zero Traces sends none.
type Traces struct{ provider *sdk.TracerProvider }

// OpenTraces makes what the options ask for. service names the program, node the machine's node. It does not wait for
// the collector: spans that it does not take are dropped, and a line in the log says so, once a minute at most.
func OpenTraces(ctx context.Context, o Options, service, node string, logger *slog.Logger) (*Traces, error) {
	if o.TraceEndpoint == "" {
		return &Traces{}, nil
	}
	address, tls, err := endpoint(o.TraceEndpoint)
	if err != nil {
		return nil, fmt.Errorf("trace-endpoint %q: %w", o.TraceEndpoint, err)
	}
	options := []otlptracegrpc.Option{otlptracegrpc.WithEndpoint(address)}
	if !tls {
		options = append(options, otlptracegrpc.WithInsecure())
	}
	exporter, err := otlptracegrpc.New(ctx, options...)
	if err != nil {
		return nil, fmt.Errorf("trace-endpoint %q: %w", o.TraceEndpoint, err)
	}
	otel.SetErrorHandler(&complaints{logger: logger, endpoint: o.TraceEndpoint})
	return &Traces{sdk.NewTracerProvider(
		sdk.WithBatcher(exporter),
		sdk.WithSampler(sdk.ParentBased(sdk.TraceIDRatioBased(o.TraceSampling))),
		sdk.WithResource(resource.NewSchemaless(attribute.String("service.name", service), attribute.String("service.instance.id", node))))}, nil
}

// Provider makes tracers; nil where no traces are sent.
func (t *Traces) Provider() trace.TracerProvider {
	if t.provider == nil {
		return nil // not a nil pointer in an interface
	}
	return t.provider
}

// Close sends what is left. A collector that is gone is no error: it was complained about already.
func (t *Traces) Close() {
	if t.provider == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), flushTime)
	defer cancel()
	if err := t.provider.Shutdown(ctx); err != nil {
		otel.Handle(err)
	}
}

// complaints logs what the exporter reports, once a minute at most.
type complaints struct {
	logger   *slog.Logger
	endpoint string

	mu   sync.Mutex
	last time.Time
}

// Handle implements otel.ErrorHandler.
func (c *complaints) Handle(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.last.IsZero() && time.Since(c.last) < time.Minute {
		return
	}
	c.last = time.Now()
	c.logger.Warn("traces cannot be sent: spans are dropped", "endpoint", c.endpoint, events.LogError, err)
}
