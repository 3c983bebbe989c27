package garbage

import (
	"encoding/json"
	"slices"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/scheme"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/services/loop"
)

// ownerState is what has become of an owner.
type ownerState int

const (
	absent     ownerState = iota // gone, or another object of the same name
	solidOwner                   // alive
	waiting                      // being deleted, once its dependents are gone
	unknown                      // of a kind that nobody here knows: an aggregated API's, perhaps
)

// find looks an owner up: in the dependent's namespace, or cluster-wide.
func find(v *loop.View, dependent loop.Meta, ref metav1.OwnerReference) (loop.Meta, ownerState) {
	gv, err := schema.ParseGroupVersion(ref.APIVersion)
	if err != nil {
		return loop.Meta{}, unknown
	}
	resource, ok := resourceOf(v, gv, ref.Kind)
	if !ok {
		return loop.Meta{}, unknown
	}
	known := false
	for _, namespace := range slices.Compact([]string{dependent.Key.Namespace, ""}) {
		key := events.Key{Group: gv.Group, Resource: resource, Namespace: namespace, Name: ref.Name}
		known = known || v.Known(key)
		owner, found := v.Find(key)
		if !found || owner.UID != ref.UID {
			continue
		}
		if owner.DeletionTimestamp != nil && slices.Contains(owner.Finalizers, metav1.FinalizerDeleteDependents) {
			return owner, waiting
		}
		return owner, solidOwner
	}
	if !known && loop.Leases.Is(dependent.Key) {
		return loop.Meta{}, unknown // of the volatile log, which may run ahead of the log that its owner is on
	}
	return loop.Meta{}, absent
}

// resourceOf finds the resource of a kind.
func resourceOf(v *loop.View, gv schema.GroupVersion, kind string) (string, bool) {
	if scheme.Scheme.IsGroupRegistered(gv.Group) {
		if known := builtin(gv.Group, kind); known != "" {
			return known, true
		}
	}
	for s := range v.States("apiextensions.k8s.io", "customresourcedefinitions", "") {
		var crd struct {
			Spec struct {
				Group string
				Names struct{ Kind, Plural string }
			}
		}
		if json.Unmarshal(s.Object, &crd) == nil && crd.Spec.Group == gv.Group && crd.Spec.Names.Kind == kind {
			return crd.Spec.Names.Plural, true
		}
	}
	switch {
	case gv.Group == "apiextensions.k8s.io" && kind == "CustomResourceDefinition":
		return "customresourcedefinitions", true
	case gv.Group == "apiregistration.k8s.io" && kind == "APIService":
		return "apiservices", true
	}
	return "", false
}

// builtin guesses the plural of a kind that the built-in groups have: upstream's own rule is right for all.
func builtin(group, kind string) string {
	for _, gv := range scheme.Scheme.PrioritizedVersionsForGroup(group) {
		if scheme.Scheme.Recognizes(gv.WithKind(kind)) {
			plural, _ := meta.UnsafeGuessKindToResource(gv.WithKind(kind))
			return plural.Resource
		}
	}
	return ""
}
