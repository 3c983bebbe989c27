package quota

import (
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/runtime/schema"
	resourcehelper "k8s.io/component-helpers/resource"
)

// podUse is what a pod is charged for, and how long until that changes by itself (0: it does not). A pod that
// has ended, or that should have by now, is charged for as an object only.
func podUse(p *corev1.Pod, now time.Time) (corev1.ResourceList, time.Duration) {
	object := corev1.ResourceList{countPrefix + corev1.ResourcePods: *resource.NewQuantity(1, resource.DecimalSI)}
	if finished(p) {
		return object, 0
	}
	var left time.Duration
	if p.DeletionTimestamp != nil && p.DeletionGracePeriodSeconds != nil {
		end := p.DeletionTimestamp.Add(time.Duration(*p.DeletionGracePeriodSeconds) * time.Second)
		if now.After(end) {
			return object, 0
		}
		left = end.Sub(now) + time.Second
	}
	out := computeOf(p)
	for name, n := range objects(schema.GroupResource{Resource: "pods"}, 1) {
		out[name] = n
	}
	return out, left
}

// computeOf is what a pod requests and is limited to, under the names that quotas have for it.
func computeOf(p *corev1.Pod) corev1.ResourceList {
	o := resourcehelper.PodResourcesOptions{UseStatusResources: true}
	out := corev1.ResourceList{}
	for name, n := range resourcehelper.PodRequests(p, o) {
		switch {
		case native(name), strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix):
			out[name] = n
		case !strings.Contains(string(name), "/"):
			continue // neither a native resource nor an extended one
		}
		out[corev1.DefaultResourceRequestsPrefix+name] = n
	}
	for name, n := range resourcehelper.PodLimits(p, o) {
		if native(name) {
			out["limits."+name] = n
		}
	}
	return out
}

func native(name corev1.ResourceName) bool {
	return name == corev1.ResourceCPU || name == corev1.ResourceMemory || name == corev1.ResourceEphemeralStorage
}

func finished(p *corev1.Pod) bool {
	return p.Status.Phase == corev1.PodFailed || p.Status.Phase == corev1.PodSucceeded
}

func terminating(p *corev1.Pod) bool {
	return p.Spec.ActiveDeadlineSeconds != nil && *p.Spec.ActiveDeadlineSeconds >= 0
}

// scopesOf are all that an object must be in to be limited by the quota.
func scopesOf(q *corev1.ResourceQuota) []corev1.ScopedResourceSelectorRequirement {
	var out []corev1.ScopedResourceSelectorRequirement
	for _, s := range q.Spec.Scopes {
		out = append(out, corev1.ScopedResourceSelectorRequirement{ScopeName: s, Operator: corev1.ScopeSelectorOpExists})
	}
	if q.Spec.ScopeSelector != nil {
		out = append(out, q.Spec.ScopeSelector.MatchExpressions...)
	}
	return out
}

func inScopes(p *corev1.Pod, scopes []corev1.ScopedResourceSelectorRequirement) bool {
	return !slices.ContainsFunc(scopes, func(s corev1.ScopedResourceSelectorRequirement) bool { return !inScope(p, s) })
}

func inScope(p *corev1.Pod, s corev1.ScopedResourceSelectorRequirement) bool {
	switch s.ScopeName {
	case corev1.ResourceQuotaScopeTerminating:
		return terminating(p)
	case corev1.ResourceQuotaScopeNotTerminating:
		return !terminating(p)
	case corev1.ResourceQuotaScopeBestEffort:
		return bestEffort(p)
	case corev1.ResourceQuotaScopeNotBestEffort:
		return !bestEffort(p)
	case corev1.ResourceQuotaScopePriorityClass:
		class := p.Spec.PriorityClassName
		switch s.Operator {
		case corev1.ScopeSelectorOpExists:
			return class != ""
		case corev1.ScopeSelectorOpDoesNotExist:
			return class == ""
		case corev1.ScopeSelectorOpIn:
			return class != "" && slices.Contains(s.Values, class)
		case corev1.ScopeSelectorOpNotIn:
			return !slices.Contains(s.Values, class)
		}
	case corev1.ResourceQuotaScopeCrossNamespacePodAffinity:
		return looksAbroad(p)
	}
	return false
}

// bestEffort says whether a pod neither requests nor is limited to any CPU or memory.
func bestEffort(p *corev1.Pod) bool {
	if p.Status.QOSClass != "" {
		return p.Status.QOSClass == corev1.PodQOSBestEffort
	}
	for name, n := range computeOf(p) {
		if (strings.HasSuffix(string(name), string(corev1.ResourceCPU)) || strings.HasSuffix(string(name), string(corev1.ResourceMemory))) && !n.IsZero() {
			return false
		}
	}
	return true
}

// looksAbroad says whether a pod's rules about other pods look into other namespaces.
func looksAbroad(p *corev1.Pod) bool {
	var terms []corev1.PodAffinityTerm
	weighted := func(in []corev1.WeightedPodAffinityTerm) {
		for _, w := range in {
			terms = append(terms, w.PodAffinityTerm)
		}
	}
	if a := p.Spec.Affinity; a != nil && a.PodAffinity != nil {
		terms = append(terms, a.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution...)
		weighted(a.PodAffinity.PreferredDuringSchedulingIgnoredDuringExecution)
	}
	if a := p.Spec.Affinity; a != nil && a.PodAntiAffinity != nil {
		terms = append(terms, a.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution...)
		weighted(a.PodAntiAffinity.PreferredDuringSchedulingIgnoredDuringExecution)
	}
	return slices.ContainsFunc(terms, func(t corev1.PodAffinityTerm) bool { return len(t.Namespaces) > 0 || t.NamespaceSelector != nil })
}
