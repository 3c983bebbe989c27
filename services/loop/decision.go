package loop

import (
	"encoding/json"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/orlog-io/orlog/events"
)

// Verb is what an effect does.
type Verb string

// The verbs of effects.
const (
	Create       Verb = "create"
	Update       Verb = "update"
	UpdateStatus Verb = "update-status"
	Patch        Verb = "patch"
	Delete       Verb = "delete"
	// Finalize replaces a namespace through its finalize subresource.
	Finalize Verb = "finalize"
	// AppendEvent puts Entry on the log directly.
	AppendEvent Verb = "append"
)

// Effect is one write that a decision asks for. The loop performs it; a decider never does.
type Effect struct {
	Verb     Verb
	Resource schema.GroupVersionResource
	Key      events.Key

	// Object is the whole new object, for create, update, update-status and finalize. Updates carry the
	// resourceVersion that was decided on.
	Object runtime.Object
	// Patch is a body of type PatchType on Subresource ("" is the object itself).
	Patch       json.RawMessage
	PatchType   types.PatchType
	Subresource string

	// UID and ResourceVersion are preconditions of a deletion ("": none).
	UID             types.UID
	ResourceVersion string
	GracePeriod     *int64
	Propagation     metav1.DeletionPropagation

	// Entry is the event of AppendEvent. The performer fills in id, time and cause.
	Entry *events.Entry

	// Reason goes into the event's reason: a machine-readable decision record.
	Reason string
}

// Step is a set of effects that do not depend on each other: they are performed in parallel, in batches that
// double (1, 2, 4, ...) while all succeed, so that a refusal is noticed before it is repeated fifty times.
type Step struct {
	Effects []Effect
	// AfterSuccess: only if all steps before this one succeeded.
	AfterSuccess bool
}

// Decision is what to do about a key. The zero Decision is "nothing".
type Decision struct {
	Steps []Step
	// Again, where not 0, is how long after now the key must be decided again although nothing changed.
	Again time.Duration
	// Park: decide again when a decider's Input.Wakes sees the world change.
	Park bool
	// Refused, where not nil, says what else to do where an effect failed for a reason that will not pass by
	// itself (a quota, an invalid object), which is how a controller tells its user. It is as pure as the decision
	// and the key is decided again all the same. Batches do without.
	Refused func(error) []Effect
}

// Do adds a step of the given effects; none: no step.
func (d *Decision) Do(effects ...Effect) {
	if len(effects) > 0 {
		d.Steps = append(d.Steps, Step{Effects: effects})
	}
}

// Then adds a step that is performed only if all steps before it succeeded.
func (d *Decision) Then(effects ...Effect) {
	if len(effects) > 0 {
		d.Steps = append(d.Steps, Step{Effects: effects, AfterSuccess: true})
	}
}

// AgainIn asks for another decision after at most wait.
func (d *Decision) AgainIn(wait time.Duration) {
	if wait <= 0 {
		wait = time.Millisecond
	}
	if d.Again == 0 || wait < d.Again {
		d.Again = wait
	}
}

// Effects are all effects of all steps, in order.
func (d Decision) Effects() []Effect {
	var out []Effect
	for _, s := range d.Steps {
		out = append(out, s.Effects...)
	}
	return out
}

// Object is what the typed resources hold: a pointer to an API struct.
type Object interface {
	runtime.Object
	metav1.Object
}

// Create makes the effect that creates an object of the resource.
func (r Resource[T]) Create(o Object) Effect { return r.effect(Create, o) }

// Update makes the effect that replaces an object, if it is still at its resourceVersion.
func (r Resource[T]) Update(o Object) Effect { return r.effect(Update, o) }

// UpdateStatus makes the effect that replaces an object's status, if it is still at its resourceVersion.
func (r Resource[T]) UpdateStatus(o Object) Effect { return r.effect(UpdateStatus, o) }

// Delete makes the effect that deletes an object, if it is still the same one (by uid).
func (r Resource[T]) Delete(o metav1.Object) Effect {
	return Effect{Verb: Delete, Resource: r.GroupVersionResource, Key: r.KeyOf(o), UID: o.GetUID()}
}

// Patch makes the effect that patches an object.
func (r Resource[T]) Patch(o metav1.Object, kind types.PatchType, patch []byte) Effect {
	return Effect{Verb: Patch, Resource: r.GroupVersionResource, Key: r.KeyOf(o), PatchType: kind, Patch: patch}
}

func (r Resource[T]) effect(verb Verb, o Object) Effect {
	o.GetObjectKind().SetGroupVersionKind(r.GVK())
	return Effect{Verb: verb, Resource: r.GroupVersionResource, Key: r.KeyOf(o), Object: o}
}
