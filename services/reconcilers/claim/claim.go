// Package claim decides which objects belong to a controller: it keeps those that name it as their
// controller and match its selector, adopts matching orphans and releases what no longer matches, by
// upstream's rules. It is pure: adopting and releasing are effects of the caller's decision.
package claim

import (
	"encoding/json"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"github.com/orlog-io/orlog/services/loop"
)

// Object is a pointer to an API struct T.
type Object[T any] interface {
	*T
	metav1.Object
}

// Of returns the objects of the resource that belong to owner, those about to be adopted included, and the
// patches that adopt and release. owner's reference on what it adopts is ref. adoptable may refuse an orphan.
func Of[T any, P Object[T]](v *loop.View, r loop.Resource[T], owner metav1.Object, ref metav1.OwnerReference, selector labels.Selector,
	adoptable func(P) bool) ([]P, []loop.Effect) {
	var mine []P
	var effects []loop.Effect
	for _, o := range r.OwnedBy(v, string(owner.GetUID())) {
		p := P(o)
		if c := metav1.GetControllerOfNoCopy(p); c == nil || c.UID != owner.GetUID() {
			continue
		}
		if selector.Matches(labels.Set(p.GetLabels())) {
			mine = append(mine, p)
		} else if owner.GetDeletionTimestamp() == nil && p.GetDeletionTimestamp() == nil {
			effects = append(effects, r.Patch(p, types.StrategicMergePatchType, release(p, owner)))
		}
	}
	if owner.GetDeletionTimestamp() != nil || selector.Empty() {
		return mine, effects
	}
	for _, o := range r.Orphans(v, owner.GetNamespace()) {
		p := P(o)
		if p.GetDeletionTimestamp() != nil || !selector.Matches(labels.Set(p.GetLabels())) || (adoptable != nil && !adoptable(p)) {
			continue
		}
		mine = append(mine, p)
		effects = append(effects, r.Patch(p, types.StrategicMergePatchType, adopt(p, ref)))
	}
	return mine, effects
}

// The uid in a patch makes it fail where the name belongs to another object by now.
func adopt(o metav1.Object, ref metav1.OwnerReference) []byte {
	return patch(o, ref)
}

func release(o, owner metav1.Object) []byte {
	return patch(o, map[string]any{"$patch": "delete", "uid": owner.GetUID()})
}

func patch(o metav1.Object, reference any) []byte {
	b, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": o.GetUID(), "ownerReferences": []any{reference}}})
	if err != nil {
		panic("claim: marshalling an owner reference: " + err.Error()) // plain strings and booleans
	}
	return b
}
