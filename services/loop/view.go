package loop

import (
	"iter"

	"github.com/orlog-io/orlog/events"
)

// Reader is a consistent read-only view of a projection at one sequence.
type Reader interface {
	Sequence() events.Sequence
	// Get returns a living object; false where there is none.
	Get(events.Key) (events.State, bool, error)
	// Cursor returns the state even of a deleted or unknown object.
	Cursor(events.Key) (events.State, error)
	// List returns the living objects of a resource by namespace and name; namespace "" is all of them.
	List(group, resource, namespace string) iter.Seq2[events.State, error]
	// All returns every living object of every resource in a namespace.
	All(namespace string) iter.Seq2[events.State, error]
	// ByOwner returns the living objects that name the uid as an owner.
	ByOwner(uid string) iter.Seq2[events.State, error]
	Close()
}

// View is all that a decision may know. A read that fails makes the view's Err stick: the loop then throws
// the decision away, so deciders need not check each read.
type View struct {
	// Cause is the event that made the key dirty: names of new objects derive from it.
	Cause events.Cause

	log, volatile Reader
	cache         *Cache
	orphans       *orphanIndex   // nil: read the namespace
	lists         map[listed]any // what was listed, for who lists the same time and again; nil: not kept
	failed        *error         // shared by With's copies
}

// listed names a list.
type listed struct{ group, resource, namespace string }

// NewView makes a view. volatile may be nil: then volatile resources are empty. cache may be nil.
func NewView(log, volatile Reader, cache *Cache, cause events.Cause) *View {
	if cache == nil {
		cache = NewCache(0)
	}
	return &View{Cause: cause, log: log, volatile: volatile, cache: cache, failed: new(error)}
}

// With is the same view for another cause.
func (v *View) With(cause events.Cause) *View {
	w := *v
	w.Cause = cause
	return &w
}

// Sequence is the position of the view in the log.
func (v *View) Sequence() events.Sequence { return v.log.Sequence() }

// Err is the first read or decoding error.
func (v *View) Err() error { return *v.failed }

// Fail records an error that makes the decision worthless.
func (v *View) Fail(err error) {
	if *v.failed == nil {
		*v.failed = err
	}
}

// State returns an object undecoded; false where it does not live.
func (v *View) State(key events.Key) (events.State, bool) {
	s, ok, err := v.log.Get(key)
	if err != nil {
		v.Fail(err)
		return events.State{}, false
	}
	return s, ok
}

// Known says whether the projection has ever heard of the key, alive or deleted.
func (v *View) Known(key events.Key) bool {
	s, err := v.log.Cursor(key)
	if err != nil {
		v.Fail(err)
	}
	return s.Newest() != 0
}

// Cursor returns the state of a key even where the object is deleted or unknown, for compare-and-swap.
func (v *View) Cursor(key events.Key) events.State {
	s, err := v.log.Cursor(key)
	if err != nil {
		v.Fail(err)
	}
	return s
}

// All returns every living object in a namespace ("": of the whole log), undecoded.
func (v *View) All(namespace string) iter.Seq[events.State] { return v.each(v.log.All(namespace)) }

// Owned returns every living object, of any resource, that names the uid as an owner.
func (v *View) Owned(uid string) iter.Seq[events.State] { return v.each(v.log.ByOwner(uid)) }

// States returns the living objects of a resource, undecoded, by namespace and name.
func (v *View) States(group, resource, namespace string) iter.Seq[events.State] {
	return v.each(v.log.List(group, resource, namespace))
}

func (v *View) each(in iter.Seq2[events.State, error]) iter.Seq[events.State] {
	return func(yield func(events.State) bool) {
		for s, err := range in {
			if err != nil {
				v.Fail(err)
				return
			}
			if !yield(s) {
				return
			}
		}
	}
}
