package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/events/tracing"
	"github.com/orlog-io/orlog/node/agent/outbox"
	"github.com/orlog-io/orlog/node/image"
	"github.com/orlog-io/orlog/node/probe"
	"github.com/orlog-io/orlog/node/stats"
	"github.com/orlog-io/orlog/node/volume"
	"github.com/orlog-io/orlog/projections"
)

// Agent runs one node's pods. Make it with New or Open, then Run it.
type Agent struct {
	o       Options
	log     *slog.Logger
	tracer  tracing.Tracer
	machine *machine
	records records
	volumes *volume.Manager
	outbox  *outbox.Outbox
	probes  *probe.Manager
	events  *recorder
	sources sources
	usage   *stats.Reader

	starts chan struct{} // one token for each pod that may start at once
	pulls  chan struct{}
	admits sync.Mutex

	imageUse sync.RWMutex // see image.Collector.Guard
	images   *image.Collector

	mu       sync.Mutex
	workers  map[string]*worker // by pod uid
	refs     refs
	wg       sync.WaitGroup
	ctx      context.Context // Run's
	caughtUp chan struct{}   // closed when the projection has caught up with the log
	parts    []part
	fatal    context.CancelCauseFunc
	nodeNews chan struct{} // capacity 1
}

// New prepares an agent; nothing runs yet.
func New(o Options) (*Agent, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	a := &Agent{o: o, log: o.Logger.With("node", o.NodeName), tracer: tracing.New(o.Tracer, "agent"), records: records{filepath.Join(o.DataDir, "pods")},
		workers: map[string]*worker{}, nodeNews: make(chan struct{}, 1), caughtUp: make(chan struct{}), refs: refs{}, starts: make(chan struct{}, o.Starts), pulls: make(chan struct{}, o.Starts)}
	a.sources = sources{a}
	var err error
	if a.machine, err = readMachine(o); err != nil {
		return nil, err
	}
	if a.usage, err = stats.New(); err != nil {
		return nil, err
	}
	if a.volumes, err = volume.New(filepath.Join(o.DataDir, "volumes"), a.sources); err != nil {
		return nil, err
	}
	a.outbox, err = outbox.Open(outbox.Options{Dir: filepath.Join(o.DataDir, "outbox"), Log: o.Log, State: a.state, Merge: mergeStatus,
		Node: o.NodeName, Source: "agent/" + o.NodeName, Actor: a.actor(), Logger: a.log})
	if err != nil {
		return nil, err
	}
	a.events = newRecorder(o.API, o.NodeName, a.log)
	if err := a.registerGauges(); err != nil {
		return nil, errors.Join(err, a.outbox.Close())
	}
	return a, nil
}

// Run is the agent's life: it adopts what runs, then follows the log until ctx ends (nil) or something fails that
// trying again cannot mend. Pods run on when it returns.
func (a *Agent) Run(ctx context.Context) error {
	ctx, a.fatal = context.WithCancelCause(ctx)
	defer a.fatal(nil)
	a.ctx = ctx
	a.probes = probe.New(ctx, probe.Options{Changed: a.wakePod, Failed: a.probeFailed})

	// Watchers begin before the first look at the projection: what happens in between is seen twice, never not.
	watches := a.watches()
	if err := a.adopt(ctx); err != nil {
		return err
	}
	a.spawn("following the log", func() error { return a.o.Store.Follow(ctx, a.o.Log) })
	a.spawn("outbox", func() error { return a.outbox.Run(ctx) })
	a.spawn("runtime events", func() error { return a.followRuntime(ctx) })
	for _, w := range watches {
		a.spawn("watching "+w.sel.Resource, func() error { return a.watch(ctx, w) })
	}
	a.spawn("catching up", func() error { return a.catchUp(ctx) })
	a.spawn("housekeeping", func() error { return a.housekeeping(ctx) })
	a.spawn("garbage", func() error { return a.collectGarbage(ctx) })
	if a.images != nil {
		a.spawn("unused images", func() error { a.images.Run(ctx); return nil })
	}
	a.spawn("node", func() error { return a.reportNode(ctx) })
	if a.o.Volatile != nil {
		a.spawn("heartbeat", func() error { return a.heartbeat(ctx) })
	}
	for _, p := range a.parts {
		if p.run != nil {
			a.spawn(p.name, func() error { return p.run(ctx) })
		}
	}
	a.spawn("kubernetes events", func() error { return a.events.run(ctx) })
	<-ctx.Done()
	a.wg.Wait()
	a.probes.Wait()
	err := context.Cause(ctx)
	if errors.Is(err, context.Canceled) {
		err = nil
	}
	return errors.Join(err, a.outbox.Close())
}

// spawn runs a part of the agent; its failure ends the agent.
func (a *Agent) spawn(what string, f func() error) {
	a.wg.Go(func() {
		if err := f(); err != nil && a.ctx.Err() == nil {
			a.fatal(fmt.Errorf("agent: %s: %w", what, err))
		}
	})
}

// retry calls f until it succeeds or ctx ends, ever more slowly.
func (a *Agent) retry(ctx context.Context, what string, f func() error) {
	pause := 100 * time.Millisecond
	for {
		err := f()
		if err == nil || ctx.Err() != nil {
			return
		}
		a.log.Warn("trying again", "what", what, "pause", pause, events.LogError, err)
		if !sleep(ctx, pause) {
			return
		}
		pause = min(2*pause, 10*time.Second)
	}
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// watchSet is a watcher and what it is for.
type watchSet struct {
	*projections.Watcher
	sel    projections.Selector
	handle func(projections.Change)
}
