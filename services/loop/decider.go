package loop

import (
	"context"
	"fmt"
	"time"

	"github.com/orlog-io/orlog/events"
)

// Identity is who a decider acts as.
type Identity struct {
	User   string
	Groups []string
}

// ServiceAccount is the identity of a service account in kube-system, as upstream's controllers have.
func ServiceAccount(name string) Identity {
	return Identity{User: "system:serviceaccount:kube-system:" + name,
		Groups: []string{"system:serviceaccounts", "system:serviceaccounts:kube-system", "system:authenticated"}}
}

// Change is one object's step from one state to the next. At the start of a loop every living object comes
// once, with a zero Prev and a zero Event but for its sequence and subject.
type Change struct {
	Event      events.Event
	Prev, Next events.State
}

// Gone says whether the change ended the object's life.
func (c Change) Gone() bool { return c.Prev.Exists() && !c.Next.Exists() }

// Input is a resource that a decider reads, and what a change of it makes dirty.
type Input struct {
	// Group and Resource name the resource; Resource "*" is every resource.
	Group, Resource string
	// Keys maps a change to the decider's keys that it makes dirty; nil: none (the resource is only read).
	Keys func(*View, Change) []events.Key
	// Wakes says whether a change makes it worth deciding parked keys again; nil: never.
	Wakes func(*View, Change) bool
}

// Itself is the Keys of an Input whose changed object is what there is to decide about.
func Itself(_ *View, c Change) []events.Key { return []events.Key{c.Next.Key} }

// Output is something that a decider writes.
type Output struct {
	// Group and Resource name the resource, Subresource what of it ("" the object itself).
	Group, Resource, Subresource string
	// Shared outputs may have several writers: each then guards its writes by resourceVersion or uid.
	Shared bool
}

func (o Output) String() string {
	s := o.Resource
	if o.Group != "" {
		s += "." + o.Group
	}
	if o.Subresource != "" {
		s += "/" + o.Subresource
	}
	return s
}

// Spec declares a decider.
type Spec struct {
	// Name is the decider's own, as in metrics, logs and event sources.
	Name     string
	Identity Identity
	Inputs   []Input
	Outputs  []Output
	// Workers is how many keys are decided at once (0: 1).
	Workers int
	// Serial: decisions depend on each other's effects, so that each waits until the view holds all earlier
	// ones. Implies one worker.
	Serial bool
	// Batch is how many keys a BatchDecider is given at once at most (0: 1).
	Batch int
}

// Decider decides about one kind of thing.
type Decider interface {
	Spec() Spec
	// Decide is pure: equal arguments give an equal decision.
	Decide(v *View, key events.Key, now time.Time) Decision
}

// BatchDecider decides about several keys at one view, each decision assuming those before it.
type BatchDecider interface {
	Decider
	// DecideAll returns one decision for each key, in the order of the keys.
	DecideAll(v *View, keys []Item, now time.Time) []Decision
}

// Item is a dirty key with what dirtied it.
type Item struct {
	Key   events.Key
	Cause events.Cause
}

// Performer carries out effects. Errors match events.ErrConflict (decide again), events.ErrInvalid or
// events.ErrUnavailable; any other error is retried with backoff too.
type Performer interface {
	// Perform returns the sequence of what was written, 0 where nothing was or it is not known.
	Perform(ctx context.Context, e Effect, cause events.Cause) (events.Sequence, error)
}

// Bound is a decider with the performer of its effects.
type Bound struct {
	Decider   Decider
	Performer Performer
}

// checkOutputs refuses two writers of one output, unless both declare it shared.
func checkOutputs(deciders []Bound) error {
	names, writers := map[string]bool{}, map[string]string{}
	shared := map[string]bool{}
	for _, d := range deciders {
		spec := d.Decider.Spec()
		if spec.Name == "" || names[spec.Name] {
			return fmt.Errorf("decider %q: %w: the name must be given and be its own", spec.Name, events.ErrInvalid)
		}
		names[spec.Name] = true
		for _, o := range spec.Outputs {
			at := o.String()
			if other, taken := writers[at]; taken && !(shared[at] && o.Shared) {
				return fmt.Errorf("deciders %q and %q both write %s: %w: both must declare the output shared", other, spec.Name, at, events.ErrInvalid)
			}
			writers[at], shared[at] = spec.Name, o.Shared
		}
	}
	return nil
}

// declared says whether the spec names the output that an effect writes.
func (s Spec) declared(e Effect) bool {
	sub := e.Subresource
	switch e.Verb {
	case UpdateStatus:
		sub = "status"
	case Finalize:
		sub = "finalize"
	}
	for _, o := range s.Outputs {
		if o.Resource == "*" || (o.Group == e.Key.Group && o.Resource == e.Key.Resource && o.Subresource == sub) {
			return true
		}
	}
	return false
}
