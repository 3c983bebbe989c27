package garbage

import (
	"bytes"
	"encoding/json"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/services/loop"
)

// Collector decides about owners and dependents.
type Collector struct{}

// Spec declares what the reconciler reads and writes: everything.
func (Collector) Spec() loop.Spec {
	return loop.Spec{
		Name:     "garbage",
		Identity: loop.ServiceAccount("generic-garbage-collector"),
		Inputs:   []loop.Input{{Resource: "*", Keys: concerned}},
		Outputs:  []loop.Output{{Resource: "*", Shared: true}},
		Workers:  8,
	}
}

var (
	hasOwners    = []byte(`"ownerReferences"`)
	isDeleting   = []byte(`"deletionTimestamp"`)
	blocksOwner  = []byte(`"blockOwnerDeletion":true`)
	isForeground = []byte(`"` + metav1.FinalizerDeleteDependents + `"`)
	isOrphaning  = []byte(`"` + metav1.FinalizerOrphanDependents + `"`)
)

// concerned maps a change to what it may make garbage. Most changes concern nobody, so it looks at the bytes
// before it parses.
func concerned(v *loop.View, c loop.Change) []events.Key {
	if c.Gone() {
		return append(keys(v.Dependents(c.Prev.UID)), waitingOwners(v, c.Prev)...)
	}
	s := c.Next
	if !s.Exists() || c.Event.Subject.Class == events.Observed {
		return nil
	}
	var out []events.Key
	if bytes.Contains(s.Object, isDeleting) && (bytes.Contains(s.Object, isForeground) || bytes.Contains(s.Object, isOrphaning)) {
		out = append(keys(v.Dependents(s.UID)), s.Key)
	} else if bytes.Contains(s.Object, hasOwners) && ownersChanged(v, c) {
		out = append(out, s.Key)
	}
	if c.Prev.Exists() && bytes.Contains(c.Prev.Object, blocksOwner) && ownersChanged(v, c) {
		out = append(out, waitingOwners(v, c.Prev)...)
	}
	return out
}

func ownersChanged(v *loop.View, c loop.Change) bool {
	if !c.Prev.Exists() {
		return true
	}
	was, _ := v.MetaOf(c.Prev)
	is, _ := v.MetaOf(c.Next)
	same := func(a, b metav1.OwnerReference) bool {
		return a.UID == b.UID && blocking(a) == blocking(b)
	}
	return !slices.EqualFunc(was.OwnerReferences, is.OwnerReferences, same)
}

func keys(metas []loop.Meta) []events.Key {
	var out []events.Key
	for _, m := range metas {
		out = append(out, m.Key)
	}
	return out
}

// waitingOwners are the owners of an object that wait for it to go.
func waitingOwners(v *loop.View, s events.State) []events.Key {
	if !bytes.Contains(s.Object, blocksOwner) {
		return nil
	}
	m, ok := v.MetaOf(s)
	if !ok {
		return nil
	}
	var out []events.Key
	for _, ref := range m.OwnerReferences {
		if owner, state := find(v, m, ref); state == waiting {
			out = append(out, owner.Key)
		}
	}
	return out
}

// Decide decides about one object, as an owner and as a dependent.
func (Collector) Decide(v *loop.View, key events.Key, _ time.Time) (d loop.Decision) {
	m, ok := v.Find(key)
	if !ok {
		return d
	}
	if m.DeletionTimestamp != nil {
		switch {
		case slices.Contains(m.Finalizers, metav1.FinalizerOrphanDependents):
			orphan(v, &d, m)
		case slices.Contains(m.Finalizers, metav1.FinalizerDeleteDependents):
			release(v, &d, m)
		}
		return d
	}
	if len(m.OwnerReferences) > 0 {
		judge(v, &d, m)
	}
	return d
}

// orphan takes the owner's reference off its dependents, then lets the owner go.
func orphan(v *loop.View, d *loop.Decision, owner loop.Meta) {
	var effects []loop.Effect
	for _, m := range v.Dependents(string(owner.UID)) {
		effects = append(effects, withoutOwners(m, func(ref metav1.OwnerReference) bool { return ref.UID == owner.UID }))
	}
	d.Do(effects...)
	d.Then(withoutFinalizer(owner, metav1.FinalizerOrphanDependents))
}

// release lets an owner go when no dependent blocks it any more.
func release(v *loop.View, d *loop.Decision, owner loop.Meta) {
	for _, m := range v.Dependents(string(owner.UID)) {
		for _, ref := range m.OwnerReferences {
			if ref.UID == owner.UID && blocking(ref) {
				return
			}
		}
	}
	d.Do(withoutFinalizer(owner, metav1.FinalizerDeleteDependents))
}

func blocking(ref metav1.OwnerReference) bool {
	return ref.BlockOwnerDeletion != nil && *ref.BlockOwnerDeletion
}

// judge deletes a dependent that nobody owns any more, or takes off it the references to who is gone.
func judge(v *loop.View, d *loop.Decision, m loop.Meta) {
	useless := map[types.UID]bool{}
	solid, awaited := 0, 0
	for _, ref := range m.OwnerReferences {
		switch _, state := find(v, m, ref); state {
		case solidOwner, unknown:
			solid++
		case waiting:
			awaited++
			useless[ref.UID] = true
		case absent:
			useless[ref.UID] = true
		}
	}
	switch {
	case len(useless) == 0:
	case solid > 0:
		d.Do(withoutOwners(m, func(ref metav1.OwnerReference) bool { return useless[ref.UID] }))
	default:
		e := m.Delete()
		e.ResourceVersion = m.ResourceVersion // its owners must still be these
		e.Propagation = metav1.DeletePropagationBackground
		if dependents := v.Dependents(string(m.UID)); awaited > 0 && len(dependents) > 0 {
			if slices.ContainsFunc(m.OwnerReferences, blocking) && slices.ContainsFunc(dependents, awaiting) {
				d.Do(unblocking(m)) // the change makes it be decided again
				return
			}
			e.Propagation = metav1.DeletePropagationForeground
		}
		d.Do(e)
	}
}

// awaiting says whether an object is deleted and waits for its dependents. Where a dependent of what is to go does,
// they may wait for each other in a circle.
func awaiting(m loop.Meta) bool {
	return m.DeletionTimestamp != nil && slices.Contains(m.Finalizers, metav1.FinalizerDeleteDependents)
}

// unblocking is the patch after which an object's owners go without waiting for it.
func unblocking(m loop.Meta) loop.Effect {
	refs := slices.Clone(m.OwnerReferences)
	for i := range refs {
		refs[i].BlockOwnerDeletion = new(false)
	}
	return patch(m, map[string]any{"ownerReferences": refs})
}

// withoutOwners is the patch that removes owner references, if the object is still as it was seen.
func withoutOwners(m loop.Meta, drop func(metav1.OwnerReference) bool) loop.Effect {
	kept := slices.DeleteFunc(slices.Clone(m.OwnerReferences), drop)
	if kept == nil {
		kept = []metav1.OwnerReference{}
	}
	return patch(m, map[string]any{"ownerReferences": kept})
}

func withoutFinalizer(m loop.Meta, name string) loop.Effect {
	kept := slices.DeleteFunc(slices.Clone(m.Finalizers), func(f string) bool { return f == name })
	if kept == nil {
		kept = []string{}
	}
	return patch(m, map[string]any{"finalizers": kept})
}

// patch is a JSON merge patch, which custom resources take too.
func patch(m loop.Meta, metadata map[string]any) loop.Effect {
	metadata["uid"], metadata["resourceVersion"] = m.UID, m.ResourceVersion
	b, err := json.Marshal(map[string]any{"metadata": metadata})
	if err != nil {
		panic("garbage: marshalling metadata: " + err.Error()) // strings and booleans
	}
	return loop.Effect{Verb: loop.Patch, Resource: m.Resource, Key: m.Key, PatchType: types.MergePatchType, Patch: b}
}
