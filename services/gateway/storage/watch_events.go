package storage

import (
	"fmt"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/projections"
)

// added is the ADDED event of an object that is there when the watch begins; nil where it is filtered out.
func (w *watcher) added(state events.State) (*watch.Event, error) {
	obj, passes, err := w.look(state.Object, state.Revision)
	if err != nil || !passes {
		return nil, err
	}
	return &watch.Event{Type: watch.Added, Object: obj}, nil
}

// changed is the event of a change; nil where it is filtered out. An object that begins to match was added,
// one that no longer does was deleted, whatever else happened to it.
func (w *watcher) changed(c projections.Change) (*watch.Event, error) {
	if !c.Changed || !w.where.covers(c.Event.Subject.Key) || (w.until != 0 && c.Event.Sequence > w.until) {
		return nil, nil
	}
	at := c.Event.Sequence
	if !c.Next.Exists() {
		return w.gone(c.Prev.Object, at)
	}
	obj, err := w.s.decodeShared(c.Next.Object, at)
	if err != nil {
		return nil, w.undecoded(at, err)
	}
	passes := w.passes(obj)
	if !c.Prev.Exists() {
		if !passes {
			return nil, nil
		}
		return &watch.Event{Type: watch.Added, Object: obj}, nil
	}
	passed := true
	if !w.pred.Empty() {
		var old runtime.Object
		if old, passed, err = w.look(c.Prev.Object, at); err != nil {
			return nil, err
		}
		if passed && !passes {
			return &watch.Event{Type: watch.Deleted, Object: old}, nil
		}
	}
	switch {
	case passes && passed:
		return &watch.Event{Type: watch.Modified, Object: obj}, nil
	case passes:
		return &watch.Event{Type: watch.Added, Object: obj}, nil
	}
	return nil, nil
}

// gone is the DELETED event of an object's last state, which carries the deletion's revision.
func (w *watcher) gone(last []byte, at events.Sequence) (*watch.Event, error) {
	obj, passes, err := w.look(last, at)
	if err != nil || !passes {
		return nil, err
	}
	return &watch.Event{Type: watch.Deleted, Object: obj}, nil
}

// look decodes an object as of a revision and says whether the reader wants it.
func (w *watcher) look(data []byte, at events.Sequence) (runtime.Object, bool, error) {
	obj, err := w.s.decodeNew(data, at)
	if err != nil {
		return nil, false, w.undecoded(at, err)
	}
	return obj, w.passes(obj), nil
}

// passes says whether the reader wants an object. Without attributes it does not match, as in etcd3.
func (w *watcher) passes(obj runtime.Object) bool {
	if w.pred.Empty() {
		return true
	}
	passes, err := w.pred.Matches(obj)
	return err == nil && passes
}

func (w *watcher) undecoded(at events.Sequence, err error) error {
	return fmt.Errorf("decoding an object of %s at %d: %w", w.where.prefix, at, err)
}
