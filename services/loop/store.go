package loop

import (
	"context"
	"fmt"
	"iter"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/projections"
)

// FromProjection makes a projection the Store of a loop.
func FromProjection(s *projections.Store) Store { return projection{s} }

type projection struct{ *projections.Store }

func (p projection) Now() Reader { return reader{p.Store.Now()} }

func (p projection) Watch(from events.Sequence) Watcher {
	return watcher{p.Store.Watch(from, projections.Selector{})}
}

type reader struct{ *projections.View }

// ReaderOf makes a projection's view the Reader of a View: for replays of past decisions.
func ReaderOf(v *projections.View) Reader { return reader{v} }

func (r reader) List(group, resource, namespace string) iter.Seq2[events.State, error] {
	return r.View.List(projections.Selector{Group: group, Resource: resource, Namespace: namespace}, "")
}

func (r reader) All(namespace string) iter.Seq2[events.State, error] {
	return r.View.List(projections.Selector{Namespace: namespace}, "")
}

type watcher struct{ *projections.Watcher }

func (w watcher) Next(ctx context.Context) ([]Change, error) {
	got, err := w.Watcher.Next(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]Change, len(got))
	for i, c := range got {
		out[i] = Change{Event: c.Event, Prev: c.Prev, Next: c.Next}
	}
	return out, nil
}

// CaughtUp waits until a projection holds all that its log holds now, so that nothing is decided on a past
// that is over.
func CaughtUp(ctx context.Context, s *projections.Store, log events.Log) error {
	last, err := log.Last(ctx)
	if err != nil {
		return fmt.Errorf("asking the log for its end: %w", err)
	}
	if err := s.WaitFor(ctx, last); err != nil {
		return fmt.Errorf("waiting for the projection to reach %d: %w", last, err)
	}
	return nil
}
