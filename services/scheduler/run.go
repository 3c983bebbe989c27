package scheduler

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
	"k8s.io/client-go/rest"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/projections"
	"github.com/orlog-io/orlog/services/loop"
)

// Options configure Run.
type Options struct {
	// Store is the scheduler's projection, without history. Somebody else lets it follow the log.
	Store *projections.Store
	// Log is where bindings are appended.
	Log events.Log
	// Rest reaches the gateway as somebody who may impersonate the scheduler; nil: pods are never preempted.
	Rest *rest.Config
	// Cache of decoded objects, which those who read the same log may share (nil: one of its own).
	Cache *loop.Cache
	// Logger receives what operators should see (nil: slog.Default).
	Logger *slog.Logger
	// Registry gets the metrics of deciding, labelled service="scheduler" (nil: none); Tracer makes spans (nil: none).
	Registry prometheus.Registerer
	Tracer   trace.TracerProvider
}

// Run places pods until ctx ends (nil) or the projection fails.
func Run(ctx context.Context, o Options) error {
	if o.Store == nil || o.Log == nil {
		return fmt.Errorf("scheduler: %w: Store and Log are required", events.ErrInvalid)
	}
	if err := loop.CaughtUp(ctx, o.Store, o.Log); err != nil {
		return stopped(ctx, err)
	}
	identity := Scheduler{}.Spec().Identity
	facts := &loop.Append{Log: o.Log, Source: "scheduler", Actor: identity.User}
	bound := loop.Bound{Decider: Scheduler{NoPreemption: o.Rest == nil}, Performer: facts}
	if o.Rest != nil {
		requests, err := loop.NewREST(o.Rest, identity)
		if err != nil {
			return fmt.Errorf("scheduler: %w", err)
		}
		bound.Performer = performer{facts, requests}
	}
	to := loop.Options{Store: loop.FromProjection(o.Store), End: o.Log.Last, Cache: o.Cache, Log: o.Logger, Tracer: o.Tracer}
	if o.Registry != nil {
		to.Registry = prometheus.WrapRegistererWith(prometheus.Labels{"service": "scheduler"}, o.Registry)
	}
	return stopped(ctx, loop.Run(ctx, to, bound))
}

func stopped(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("scheduler: %w", err)
	}
	return nil
}
