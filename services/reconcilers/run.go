package reconcilers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/rest"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/projections"
	"github.com/orlog-io/orlog/services/loop"
	"github.com/orlog-io/orlog/services/reconcilers/cronjob"
	"github.com/orlog-io/orlog/services/reconcilers/daemonset"
	"github.com/orlog-io/orlog/services/reconcilers/deployment"
	"github.com/orlog-io/orlog/services/reconcilers/disruption"
	"github.com/orlog-io/orlog/services/reconcilers/endpoints"
	"github.com/orlog-io/orlog/services/reconcilers/garbage"
	"github.com/orlog-io/orlog/services/reconcilers/job"
	"github.com/orlog-io/orlog/services/reconcilers/namespace"
	"github.com/orlog-io/orlog/services/reconcilers/narrator"
	"github.com/orlog-io/orlog/services/reconcilers/nodelifecycle"
	"github.com/orlog-io/orlog/services/reconcilers/pod"
	"github.com/orlog-io/orlog/services/reconcilers/protection"
	"github.com/orlog-io/orlog/services/reconcilers/quota"
	"github.com/orlog-io/orlog/services/reconcilers/replicaset"
	"github.com/orlog-io/orlog/services/reconcilers/replicationcontroller"
	"github.com/orlog-io/orlog/services/reconcilers/serviceaccount"
	"github.com/orlog-io/orlog/services/reconcilers/statefulset"
)

// Options configure Run.
type Options struct {
	// Store is the reconcilers' projection of the log, VolatileStore that of the volatile log (leases).
	// Neither needs history, and somebody else lets them follow their logs.
	Store, VolatileStore *projections.Store
	// Log is read by the narrator, else only asked for its end at the start, as Volatile is, which may be nil.
	Log, Volatile events.Log
	// Rest reaches the gateway as somebody who may impersonate service accounts.
	Rest *rest.Config
	// RootCA is the PEM bundle that is published as kube-root-ca.crt in every namespace.
	RootCA []byte
	// Cache of decoded objects, which those who read the same log may share (nil: one of its own).
	Cache *loop.Cache
	// Logger receives what operators should see (nil: slog.Default).
	Logger *slog.Logger
	// Registry gets the metrics of deciding, labelled service="reconcilers" (nil: none); Tracer makes spans (nil:
	// none).
	Registry prometheus.Registerer
	Tracer   trace.TracerProvider
	// Telling, where not nil, is told how far the narrator has come.
	Telling *narrator.Place
}

// All are the reconcilers.
func All(o Options) []loop.Decider {
	return []loop.Decider{
		serviceaccount.Accounts{},
		serviceaccount.RootCA{PEM: o.RootCA},
		deployment.Reconciler{},
		replicaset.Reconciler{},
		replicationcontroller.Reconciler{},
		daemonset.Reconciler{},
		statefulset.Reconciler{},
		job.Reconciler{},
		job.Expiry{},
		job.Orphans{},
		cronjob.Reconciler{},
		endpoints.Slices{},
		endpoints.Legacy{},
		endpoints.Mirror{},
		disruption.Reconciler{},
		quota.Reconciler{},
		pod.Collector{},
		protection.Claims{},
		protection.Volumes{},
		protection.Classes{},
		garbage.Collector{},
		namespace.Reconciler{},
		nodelifecycle.Nodes{},
		nodelifecycle.Eviction{},
	}
}

// Run runs all reconcilers until ctx ends (nil) or a projection fails. The gateway should be ready: until it
// is, writes are tried again with backoff.
func Run(ctx context.Context, o Options) error {
	if o.Store == nil || o.Log == nil || o.Rest == nil {
		return fmt.Errorf("reconcilers: %w: Store, Log and Rest are required", events.ErrInvalid)
	}
	err := run(ctx, o)
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reconcilers: %w", err)
	}
	return nil
}

func run(ctx context.Context, o Options) error {
	if err := loop.CaughtUp(ctx, o.Store, o.Log); err != nil {
		return err
	}
	to := loop.Options{Store: loop.FromProjection(o.Store), End: o.Log.Last, Cache: o.Cache, Log: o.Logger, Tracer: o.Tracer}
	if o.Registry != nil {
		to.Registry = prometheus.WrapRegistererWith(prometheus.Labels{"service": "reconcilers"}, o.Registry)
	}
	if o.VolatileStore != nil && o.Volatile != nil {
		if err := loop.CaughtUp(ctx, o.VolatileStore, o.Volatile); err != nil {
			return err
		}
		to.Volatile = loop.FromProjection(o.VolatileStore)
	}
	var bound []loop.Bound
	for _, d := range All(o) {
		p, err := loop.NewREST(o.Rest, d.Spec().Identity)
		if err != nil {
			return err
		}
		bound = append(bound, loop.Bound{Decider: d, Performer: p})
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return loop.Run(ctx, to, bound...) })
	g.Go(func() error {
		return narrator.Run(ctx, narrator.Options{Store: to.Store, Log: o.Log, Logger: o.Logger, Place: o.Telling,
			Performer: func(as loop.Identity) (loop.Performer, error) { return loop.NewREST(o.Rest, as) }})
	})
	return g.Wait()
}
