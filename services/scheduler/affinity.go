package scheduler

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// affinity is what a pod's rules about other pods, and other pods' rules about it, say by topology.
type affinity struct {
	attract, repel []*term
	// repelled are the topology values in which a bound pod refuses the asking pod.
	repelled map[domain]bool
	// lonely: the pod would be the first that its own affinity rules select, so they do not bind it.
	lonely bool
	// liked weighs topology values by preferences.
	liked map[domain]int64
}

type domain struct{ key, value string }

// term is an affinity term with the domains in which pods match it.
type term struct {
	corev1.PodAffinityTerm
	selector   labels.Selector
	namespaces func(string) bool
	matching   map[string]int
}

func (s *snapshot) newTerm(owner *corev1.Pod, t corev1.PodAffinityTerm) *term {
	selector, err := metav1.LabelSelectorAsSelector(t.LabelSelector)
	if err != nil {
		selector = labels.Nothing()
	}
	out := &term{PodAffinityTerm: t, selector: selector, matching: map[string]int{}}
	var chosen labels.Selector
	if t.NamespaceSelector != nil {
		if chosen, err = metav1.LabelSelectorAsSelector(t.NamespaceSelector); err != nil {
			chosen = nil
		}
	}
	out.namespaces = func(ns string) bool {
		switch {
		case len(t.Namespaces) == 0 && t.NamespaceSelector == nil:
			return ns == owner.Namespace
		case slices.Contains(t.Namespaces, ns):
			return true
		case chosen == nil:
			return false
		}
		return chosen.Matches(s.namespaces()[ns])
	}
	return out
}

func (t *term) selects(p *corev1.Pod) bool {
	return t.namespaces(p.Namespace) && t.selector.Matches(labels.Set(p.Labels))
}

// count finds the domains that hold matching pods.
func (t *term) count(s *snapshot) {
	for _, n := range s.nodes {
		value, has := n.node.Labels[t.TopologyKey]
		if !has {
			continue
		}
		for _, p := range n.pods {
			if t.selects(p) {
				t.matching[value]++
			}
		}
	}
}

func (a *ask) podAffinity() *affinity {
	out := &affinity{repelled: map[domain]bool{}, liked: map[domain]int64{}}
	for _, other := range a.s.averse {
		for _, t := range other.pod.Spec.Affinity.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution {
			value, has := other.node.node.Labels[t.TopologyKey]
			if has && a.s.newTerm(other.pod, t).selects(a.pod) {
				out.repelled[domain{t.TopologyKey, value}] = true
			}
		}
	}
	rules := a.pod.Spec.Affinity
	if rules == nil {
		return out
	}
	if r := rules.PodAffinity; r != nil {
		out.attract = a.terms(r.RequiredDuringSchedulingIgnoredDuringExecution)
		a.prefer(out, r.PreferredDuringSchedulingIgnoredDuringExecution, 1)
		out.lonely = len(out.attract) > 0 && !slices.ContainsFunc(out.attract, func(t *term) bool { return len(t.matching) > 0 || !t.selects(a.pod) })
	}
	if r := rules.PodAntiAffinity; r != nil {
		out.repel = a.terms(r.RequiredDuringSchedulingIgnoredDuringExecution)
		a.prefer(out, r.PreferredDuringSchedulingIgnoredDuringExecution, -1)
	}
	return out
}

func (a *ask) terms(in []corev1.PodAffinityTerm) []*term {
	var out []*term
	for _, t := range in {
		made := a.s.newTerm(a.pod, t)
		made.count(a.s)
		out = append(out, made)
	}
	return out
}

func (a *ask) prefer(to *affinity, in []corev1.WeightedPodAffinityTerm, sign int64) {
	for _, w := range in {
		t := a.s.newTerm(a.pod, w.PodAffinityTerm)
		t.count(a.s)
		for value, n := range t.matching {
			to.liked[domain{t.TopologyKey, value}] += sign * int64(w.Weight) * int64(n)
		}
	}
}

// along says whether a pod gets along with the pods in a node's domains.
func (a *ask) along(n *nodeInfo) []string {
	f := a.affinity
	for _, t := range f.attract {
		value, has := n.node.Labels[t.TopologyKey]
		if !has || (t.matching[value] == 0 && !f.lonely) {
			return []string{reasonAffinity}
		}
	}
	for _, t := range f.repel {
		if value, has := n.node.Labels[t.TopologyKey]; has && t.matching[value] > 0 {
			return []string{reasonAntiAffinity}
		}
	}
	for d := range f.repelled {
		if value, has := n.node.Labels[d.key]; has && value == d.value {
			return []string{reasonExistingAnti}
		}
	}
	return nil
}
