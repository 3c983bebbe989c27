package loop

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sync/errgroup"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/events/tracing"
	"github.com/orlog-io/orlog/projections"
)

// Store is a projection that a loop follows. FromProjection makes one.
type Store interface {
	Now() Reader
	Position() events.Sequence
	WaitFor(ctx context.Context, seq events.Sequence) error
	// Watch delivers every change after a position.
	Watch(from events.Sequence) Watcher
}

// Watcher delivers changes. One goroutine uses it.
type Watcher interface {
	Next(ctx context.Context) ([]Change, error)
	Close()
}

// Options configure Run.
type Options struct {
	// Store is the projection of the log; Volatile that of the volatile log, nil where no decider needs it.
	Store, Volatile Store
	// End is the newest sequence of the log ([events.Log.Last]). After a write whose outcome is unknown a key is
	// decided again only on a view that holds all that was on the log by then; nil: on any view.
	End func(context.Context) (events.Sequence, error)
	// Cache holds decoded objects of the log (nil: one of Run's own). Runs that read one log may share it.
	Cache *Cache
	// Log receives what operators should see.
	Log *slog.Logger
	// Now is the clock (nil: time.Now).
	Now func() time.Time
	// Registry gets the deciders' metrics (nil: none), one Run's. Tracer makes a span of each decision that does
	// something because of an event that belongs to a trace (nil: none).
	Registry prometheus.Registerer
	Tracer   trace.TracerProvider
}

// Run runs deciders until ctx ends or the projection fails. It refuses at once two exclusive writers of one
// output. The stores should have caught up with their logs before.
func Run(ctx context.Context, o Options, deciders ...Bound) error {
	if err := checkOutputs(deciders); err != nil {
		return err
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Cache == nil {
		o.Cache = NewCache(0)
	}
	r := &runner{Options: o, orphans: newOrphanIndex(), tracer: tracing.New(o.Tracer, "loop")}
	var err error
	if r.metrics, err = newMetrics(o.Registry); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, d := range deciders {
		u := newUnit(r, d)
		r.units = append(r.units, u)
		defer u.queue.closeWith(ctx)() //nolint:revive,gocritic // all of them are open until the end of the run
	}
	if o.Registry != nil {
		if err := register(o.Registry, queues(r.units)); err != nil {
			return err
		}
	}
	for _, u := range r.units {
		for range max(1, u.spec.Workers) {
			g.Go(func() error { return u.work(ctx) })
		}
	}
	g.Go(func() error { return r.follow(ctx, o.Store, false) })
	if o.Volatile != nil {
		g.Go(func() error { return r.follow(ctx, o.Volatile, true) })
	}
	if err := g.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return ctx.Err()
}

// runner is what the deciders of one Run share.
type runner struct {
	Options
	orphans *orphanIndex
	metrics *metrics
	tracer  tracing.Tracer
	units   []*unit
}

// view opens a view of now.
func (r *runner) view(why events.Cause) (*View, func()) {
	log := r.Store.Now()
	v := NewView(log, nil, r.Cache, why)
	v.orphans = r.orphans
	if r.Volatile == nil {
		return v, log.Close
	}
	v.volatile = r.Volatile.Now()
	return v, func() { v.volatile.Close(); log.Close() }
}

// follow marks everything dirty once, then what changes. Where it fell so far behind that the projection no
// longer knows what it missed, it begins again.
func (r *runner) follow(ctx context.Context, s Store, volatile bool) error {
	for {
		err := r.followFrom(ctx, s, volatile)
		if !errors.Is(err, projections.ErrTooOld) {
			return err
		}
		r.Log.Warn("fell behind the projection, reading it anew", "volatile", volatile, events.LogError, err)
	}
}

func (r *runner) followFrom(ctx context.Context, s Store, volatile bool) error {
	w := s.Watch(s.Position())
	defer w.Close()
	if err := r.begin(s, volatile); err != nil {
		return err
	}
	for {
		changes, err := w.Next(ctx)
		if err != nil {
			return fmt.Errorf("following the projection: %w", err)
		}
		if err := r.dispatch(changes, volatile); err != nil {
			return err
		}
	}
}

// begin presents every living object as a change, in chunks.
func (r *runner) begin(s Store, volatile bool) error {
	now := s.Now()
	defer now.Close()
	var chunk []Change
	for st, err := range now.All("") {
		if err != nil {
			return fmt.Errorf("reading the projection: %w", err)
		}
		e := events.Event{Sequence: st.Revision, UID: st.UID, Subject: events.Subject{Class: events.Desired, Key: st.Key, Node: st.Node}}
		chunk = append(chunk, Change{Event: e, Next: st})
		if len(chunk) == 256 {
			if err := r.dispatch(chunk, volatile); err != nil {
				return err
			}
			chunk = chunk[:0]
		}
	}
	return r.dispatch(chunk, volatile)
}

func (r *runner) dispatch(changes []Change, volatile bool) error {
	if len(changes) == 0 {
		return nil
	}
	v, done := r.view(events.Cause{})
	defer done()
	v.lists = map[listed]any{} // the changes of a batch ask for the same

	said := false // the view's error stays its first
	for _, c := range changes {
		if c.Gone() {
			r.Cache.drop(c.Next.Key)
		}
		if c.Next.Revision == c.Prev.Revision && c.Prev.Revision != 0 {
			continue // a report about an object that is gone or was replaced: nothing changed
		}
		r.orphans.note(c)
		for _, u := range r.units {
			u.mark(v, c, volatile)
		}
		if v.Err() != nil && !said {
			// A broken object must not stop the loop for all others: say so, go on.
			said = true
			r.Log.Error("reading a change", c.Event.LogAttrs(), "volatile", volatile, events.LogError, v.Err())
		}
	}
	return nil
}
