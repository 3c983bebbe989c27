package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/orlog-io/orlog/cli/nodeagent"
	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/projections"
	"github.com/orlog-io/orlog/services/access"
	"github.com/orlog-io/orlog/services/gateway"
	"github.com/orlog-io/orlog/services/loop"
	"github.com/orlog-io/orlog/services/notary"
	"github.com/orlog-io/orlog/services/reconcilers"
	"github.com/orlog-io/orlog/services/scheduler"
)

// run is the life of a control plane: it returns nil when ctx has ended and everything was closed, or the
// first failure.
func run(ctx context.Context, o options, logger *slog.Logger) (err error) {
	unlock, err := lockDataDir(o.dataDir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()

	seen, err := observe(ctx, o, logger)
	if err != nil {
		return err
	}
	defer seen.close()

	stores, err := openStores(o, logger)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stores.close()) }()

	signer, err := notary.Open(notary.Options{Dir: filepath.Join(o.dataDir, "notary"), Origin: "orlog/" + o.clusterName, Logger: logger, Registry: seen.registry})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, signer.Close()) }()

	// What has been folded or signed here must be on the log: before the log is opened, as that might create it.
	checkpoint, _ := signer.Checkpoint()
	logs, err := openLogs(ctx, o, max(stores.newest(), checkpoint.Size), seen, logger)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, logs.close()) }()
	for _, s := range stores.durable() {
		if err := s.CheckLog(ctx, logs.log); err != nil {
			return err
		}
	}
	if err := signer.CheckLog(ctx, logs.log); err != nil {
		return err
	}

	if err := seen.follow(stores, logs, signer); err != nil {
		return err
	}

	// The followers outlive the services that read what they fold.
	follow, stopFollowing := context.WithCancel(context.WithoutCancel(ctx))
	defer stopFollowing()
	followers, follow := errgroup.WithContext(follow)
	for _, s := range stores.durable() {
		followers.Go(func() error { return s.Follow(follow, logs.log) })
	}
	followers.Go(func() error { return stores.volatile.Follow(follow, logs.volatile) })

	reading, stopReading := context.WithCancel(follow) // a long log may take minutes: who asks orlogd to stop meanwhile is heard
	deaf := context.AfterFunc(ctx, stopReading)
	defer deaf()
	ledger, door, err := openDoor(reading, stores, logs, logger)
	if stopReading(); err != nil {
		stopFollowing()
		return ended(ctx, err, followers.Wait())
	}
	services, serve := errgroup.WithContext(ctx)
	services.Go(func() error { return ledger.Run(serve) })
	services.Go(func() error {
		// A projection that cannot go on takes the services down with it: better stopped than wrong.
		select {
		case <-serve.Done():
			return nil
		case <-follow.Done():
			return fmt.Errorf("a projection stopped: %w", context.Cause(follow))
		}
	})
	services.Go(func() error { return signer.Run(serve, logs.log) })
	services.Go(func() error { return seen.serve(serve) })
	startServices(serve, services, o, stores, logs, ledger, door, seen, logger)
	err = services.Wait()
	stopFollowing()
	return ended(ctx, err, followers.Wait())
}

// ended is what services and followers came to: nil where they were asked to stop, and stopped. The services may
// have ended because of a follower, and say so.
func ended(ctx context.Context, services, followers error) error {
	if ctx.Err() != nil && errors.Is(services, context.Canceled) {
		services = nil
	}
	if followers == nil || errors.Is(followers, context.Canceled) || errors.Is(services, followers) {
		return services
	}
	return errors.Join(services, followers)
}

// startServices starts the gateway and, once it is ready, what works through it.
func startServices(ctx context.Context, g *errgroup.Group, o options, stores *stores, logs *logs, ledger *access.Ledger, door *doorman, seen *observation, logger *slog.Logger) {
	g.Go(func() error {
		gw, err := gateway.New(ctx, gateway.Options{
			DataDir: o.dataDir, Listen: o.listen, AdvertiseAddress: o.advertiseAddress, ServiceCIDR: o.serviceCIDR, ClusterDomain: o.clusterDomain, EventTTL: o.eventTTL,
			Log: logs.log, Volatile: logs.volatile, Store: stores.gateway, VolatileStore: stores.volatile, Tunnel: logs.conn.Tunnel(), Logger: logger,
			Metrics: seen.registry, Tracer: seen.tracer, Ledger: ledger, LogClients: logs.clients,
		})
		if err != nil {
			return err
		}
		if err := writeKubeconfigs(gw, o); err != nil {
			return err
		}
		g.Go(func() error { return gw.Run(ctx) })
		select {
		case <-gw.Ready():
		case <-ctx.Done():
			return nil
		}
		logger.Info("the Kubernetes API is ready", "listen", o.listen, "kubeconfig", o.kubeconfig)
		if err := recordKubeconfigs(ctx, gw, o); err != nil {
			return err
		}
		if door != nil {
			g.Go(func() error { return door.run(ctx, gw.LoopbackConfig()) })
		}
		if o.gatewayOnly {
			return nil
		}
		candidate, err := newCandidate(o, gw.LoopbackConfig(), logger)
		if err != nil {
			return err
		}
		decoded := loop.NewCache(0) // what one of the two has decoded, the other need not
		g.Go(func() error {
			return candidate.lead(ctx, schedulerLease, seen.registry, func(ctx context.Context, registry prometheus.Registerer) error {
				return scheduler.Run(ctx, scheduler.Options{Store: stores.scheduler, Log: logs.log, Rest: gw.LoopbackConfig(), Cache: decoded, Logger: logger,
					Registry: registry, Tracer: seen.tracer})
			})
		})
		if o.agent != nil {
			o.agent.Tracer = seen.tracer
			g.Go(func() error {
				return nodeagent.Run(ctx, nodeagent.Cluster{NATSURL: logs.url, NATSCredentials: o.nodeCredentials, NATSCA: o.natsCA, Kubeconfig: o.nodeKubeconfig}, *o.agent)
			})
		}
		g.Go(func() error {
			return candidate.lead(ctx, reconcilersLease, seen.registry, func(ctx context.Context, registry prometheus.Registerer) error {
				return reconcilers.Run(ctx, reconcilers.Options{Store: stores.reconcilers, VolatileStore: stores.volatile,
					Log: logs.log, Volatile: logs.volatile, Rest: gw.LoopbackConfig(), RootCA: gw.CABundle(), Cache: decoded, Logger: logger,
					Registry: registry, Tracer: seen.tracer, Telling: &seen.telling})
			})
		})
		return nil
	})
}

func writeKubeconfigs(gw *gateway.Gateway, o options) error {
	for i, path := range []string{o.kubeconfig, o.nodeKubeconfig} {
		holder := o.kubeconfigHolders()[i]
		if err := gw.WriteKubeconfig(path, holder[0], holder[1]); err != nil {
			return err
		}
	}
	return nil
}

// lockDataDir makes the data folder and takes it for this process alone.
func lockDataDir(dir string) (unlock func() error, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("data-dir: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("data-dir: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("data-dir %s is in use by another orlogd (%w): stop it, or give another --data-dir", dir, err), f.Close())
	}
	return f.Close, nil // closing gives the lock back
}

// stores are the projections of this process: one a service, because nobody reads through anybody else. Those of
// services that do not run here are nil.
type stores struct {
	gateway, scheduler, reconcilers, volatile *projections.Store
}

func openStores(o options, logger *slog.Logger) (*stores, error) {
	s := &stores{}
	for _, p := range []struct {
		to      **projections.Store
		name    string
		options projections.Options
	}{
		{&s.gateway, "gateway", projections.Options{History: true, CacheBytes: 32 << 20}},
		{&s.scheduler, "scheduler", projections.Options{CacheBytes: 4 << 20, MemTableBytes: 4 << 20}},
		{&s.reconcilers, "reconcilers", projections.Options{CacheBytes: 8 << 20, MemTableBytes: 4 << 20}},
		{&s.volatile, "volatile", projections.Options{CacheBytes: 2 << 20, MemTableBytes: 2 << 20}},
	} {
		if o.gatewayOnly && (p.to == &s.scheduler || p.to == &s.reconcilers) {
			continue
		}
		p.options.Logger = logger
		opened, err := projections.Open(filepath.Join(o.dataDir, "projections", p.name), p.options)
		if err != nil {
			return nil, errors.Join(err, s.close())
		}
		*p.to = opened
	}
	return s, nil
}

func (s *stores) durable() []*projections.Store {
	return slices.DeleteFunc([]*projections.Store{s.gateway, s.scheduler, s.reconcilers}, func(p *projections.Store) bool { return p == nil })
}

// newest is the highest sequence that any projection of the log has seen.
func (s *stores) newest() events.Sequence {
	var n events.Sequence
	for _, p := range s.durable() {
		n = max(n, p.Position())
	}
	return n
}

func (s *stores) close() error {
	var errs []error
	for _, p := range []*projections.Store{s.gateway, s.scheduler, s.reconcilers, s.volatile} {
		if p != nil {
			errs = append(errs, p.Close())
		}
	}
	return errors.Join(errs...)
}
