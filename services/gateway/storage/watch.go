package storage

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/apiserver/pkg/features"
	apistorage "k8s.io/apiserver/pkg/storage"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	utilflowcontrol "k8s.io/apiserver/pkg/util/flowcontrol"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/projections"
)

// watchBuffer is how many events may wait for a slow reader; the projection's watcher holds back the rest.
const watchBuffer = 100

// Watch implements storage.Interface: from any past revision where the projection keeps history.
//
// In a request that travels in time the watch ends, so to speak, where it travels to: it gives the initial
// objects, or the changes, up to there, and then stays silent until its context ends.
func (s *store) Watch(ctx context.Context, key string, opts apistorage.ListOptions) (watch.Interface, error) {
	where, err := s.span(key, opts.Recursive)
	if err != nil {
		return nil, err
	}
	rv, err := s.versioner.ParseResourceVersion(opts.ResourceVersion)
	if err != nil {
		return nil, err
	}
	w := &watcher{s: s, where: where, pred: opts.Predicate, from: events.Sequence(rv), notify: opts.ProgressNotify,
		until: SequenceFrom(ctx), results: make(chan watch.Event, watchBuffer)}
	if w.until != 0 {
		if err := s.reach(ctx, max(w.until, w.from)); err != nil {
			return nil, err
		}
		if w.from > w.until {
			return nil, apistorage.NewTooLargeResourceVersionError(rv, uint64(w.until), 0)
		}
	}
	if err := w.plan(ctx, opts); err != nil {
		return nil, err
	}
	ctx, w.cancel = context.WithCancel(ctx)
	if !s.start(func(life context.Context) {
		stop := context.AfterFunc(life, w.cancel)
		defer stop()
		w.run(ctx)
	}) {
		w.cancel()
		return nil, apistorage.NewUnreachableError(where.prefix, 0)
	}
	utilflowcontrol.WatchInitialized(ctx)
	return w, nil
}

// watcher is a watch.Interface. One goroutine runs it.
type watcher struct {
	s      *store
	where  span
	pred   apistorage.SelectionPredicate
	from   events.Sequence
	until  events.Sequence // 0: for ever
	notify bool

	// initial: begin with the objects that are there, as ADDED; bookmark: and then say that this was all.
	initial, bookmark bool

	results chan watch.Event
	cancel  context.CancelFunc
	// told is the newest revision that the reader has heard of; wanted the one that somebody waits for.
	told, wanted atomic.Uint64
}

// plan reads the options as etcd3 does. A watch of nothing but what comes begins where the log ends now.
func (w *watcher) plan(ctx context.Context, opts apistorage.ListOptions) (err error) {
	watchList := utilfeature.DefaultFeatureGate.Enabled(features.WatchList)
	send := watchList && opts.SendInitialEvents != nil && *opts.SendInitialEvents
	w.initial = send || (opts.SendInitialEvents == nil && w.from == 0)
	w.bookmark = send && opts.Predicate.AllowWatchBookmarks
	switch {
	case w.from != 0 || w.initial:
	case w.until != 0:
		w.from = w.until
	default:
		w.from, err = w.s.last(ctx)
	}
	return err
}

// Stop implements watch.Interface.
func (w *watcher) Stop() { w.cancel() }

// ResultChan implements watch.Interface.
func (w *watcher) ResultChan() <-chan watch.Event { return w.results }

func (w *watcher) run(ctx context.Context) {
	defer close(w.results)
	defer w.cancel()
	err := w.start(ctx)
	if err == nil {
		err = w.follow(ctx)
	}
	if ctx.Err() != nil || errors.Is(err, context.Canceled) {
		return
	}
	_ = w.send(ctx, watch.Event{Type: watch.Error, Object: statusOf(err)}) // it ends either way
}

// statusOf is an error as a watch reports it.
func statusOf(err error) *metav1.Status {
	if errors.Is(err, projections.ErrTooOld) {
		err = apierrors.NewResourceExpired(expiredWatch)
	}
	var known apierrors.APIStatus
	if !errors.As(err, &known) {
		known = apierrors.NewInternalError(err)
	}
	status := known.Status()
	return &status
}

// start sends the initial objects and fixes where to begin.
func (w *watcher) start(ctx context.Context) error {
	if w.initial {
		if err := w.sendInitial(ctx); err != nil {
			return err
		}
	}
	w.told.Store(uint64(w.from))
	if !w.bookmark {
		return nil
	}
	obj := w.s.newObject()
	if err := w.s.versioner.UpdateObject(obj, uint64(w.from)); err != nil {
		return err
	}
	if err := apistorage.AnnotateInitialEventsEndBookmark(obj); err != nil {
		return err
	}
	return w.send(ctx, watch.Event{Type: watch.Bookmark, Object: obj})
}

func (w *watcher) sendInitial(ctx context.Context) error {
	view, err := w.s.view(ctx, 0, w.from)
	if apistorage.IsTooLargeResourceVersion(err) {
		retry := int(wait.Jitter(time.Second, 3).Seconds())
		err = apistorage.NewTooLargeResourceVersionError(uint64(w.from), uint64(w.s.proj.Position()), max(retry, 1))
	}
	if err != nil {
		return err
	}
	defer view.Close()
	states, err := w.s.states(view, w.where, "")
	if err != nil {
		return err
	}
	w.from = view.Sequence()
	for len(states) > 0 {
		batch := states[:min(decodeBatch, len(states))]
		states = states[len(batch):]
		if err := w.sendAll(ctx, len(batch), func(i int) (*watch.Event, error) { return w.added(batch[i]) }); err != nil {
			return err
		}
	}
	return nil
}

// follow sends changes after w.from until ctx ends.
func (w *watcher) follow(ctx context.Context) error {
	changes := w.s.proj.Watch(w.from, w.where.selector)
	defer changes.Close()
	if w.notify && w.until == 0 {
		leave := w.s.progress.join(w, changes)
		defer leave()
	}
	for w.until == 0 || changes.Position() < w.until {
		batch, err := changes.Next(ctx)
		if err != nil {
			return err
		}
		if err := w.sendAll(ctx, len(batch), func(i int) (*watch.Event, error) { return w.changed(batch[i]) }); err != nil {
			return err
		}
		if n := len(batch); n > 0 {
			w.told.Store(uint64(batch[n-1].Event.Sequence))
		}
		if err := w.sendProgress(ctx, changes); err != nil {
			return err
		}
	}
	<-ctx.Done()
	return ctx.Err()
}

// sendAll makes n events on all processors and sends them in order.
func (w *watcher) sendAll(ctx context.Context, n int, make1 func(i int) (*watch.Event, error)) error {
	out, errs := make([]*watch.Event, n), make([]error, n)
	parallel(n, func(i int) { out[i], errs[i] = make1(i) })
	for i, e := range out {
		if errs[i] != nil {
			return errs[i]
		}
		if e == nil {
			continue
		}
		if err := w.send(ctx, *e); err != nil {
			return err
		}
	}
	return nil
}

// send waits until the reader takes the event.
func (w *watcher) send(ctx context.Context, e watch.Event) error {
	select {
	case w.results <- e:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
