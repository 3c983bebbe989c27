package scheduler

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// spreadConstraint is a topology spread constraint with how many matching pods each domain holds.
type spreadConstraint struct {
	corev1.TopologySpreadConstraint
	selector labels.Selector
	counts   map[string]int
	self     int // 1 where the pod itself matches
}

func (a *ask) spreadConstraints() []*spreadConstraint {
	var out []*spreadConstraint
	for _, c := range a.pod.Spec.TopologySpreadConstraints {
		selector, err := metav1.LabelSelectorAsSelector(c.LabelSelector)
		if err != nil {
			continue // the API admits none
		}
		for _, key := range c.MatchLabelKeys {
			if value, ok := a.pod.Labels[key]; ok {
				if r, err := labels.NewRequirement(key, "=", []string{value}); err == nil {
					selector = selector.Add(*r)
				}
			}
		}
		sc := &spreadConstraint{TopologySpreadConstraint: c, selector: selector, counts: map[string]int{}}
		if selector.Matches(labels.Set(a.pod.Labels)) {
			sc.self = 1
		}
		out = append(out, sc)
	}
	for _, sc := range out {
		a.countDomains(sc, out)
	}
	return out
}

// countDomains counts over the nodes that take part: those with all hard constraints' labels, and that the
// constraint's policies do not leave out.
func (a *ask) countDomains(sc *spreadConstraint, all []*spreadConstraint) {
	for _, n := range a.s.nodes {
		value, has := n.node.Labels[sc.TopologyKey]
		if !has || !hasLabels(n.node, all, sc.WhenUnsatisfiable) || !a.takesPart(sc, n) {
			continue
		}
		count := 0
		for _, p := range n.pods {
			if p.Namespace == a.pod.Namespace && p.DeletionTimestamp == nil && sc.selector.Matches(labels.Set(p.Labels)) {
				count++
			}
		}
		sc.counts[value] += count
	}
}

func hasLabels(n *corev1.Node, all []*spreadConstraint, when corev1.UnsatisfiableConstraintAction) bool {
	return !slices.ContainsFunc(all, func(c *spreadConstraint) bool {
		_, has := n.Labels[c.TopologyKey]
		return c.WhenUnsatisfiable == when && !has
	})
}

func (a *ask) takesPart(sc *spreadConstraint, n *nodeInfo) bool {
	if p := sc.NodeAffinityPolicy; p == nil || *p == corev1.NodeInclusionPolicyHonor {
		if len(a.attracted(n)) > 0 {
			return false
		}
	}
	if p := sc.NodeTaintsPolicy; p != nil && *p == corev1.NodeInclusionPolicyHonor {
		return len(a.tolerates(n)) == 0
	}
	return true
}

func (sc *spreadConstraint) fewest() int {
	if sc.MinDomains != nil && len(sc.counts) < int(*sc.MinDomains) {
		return 0
	}
	least := -1
	for _, n := range sc.counts {
		if least < 0 || n < least {
			least = n
		}
	}
	return max(least, 0)
}

func (a *ask) spreads(n *nodeInfo) []string {
	for _, sc := range a.spread {
		if sc.WhenUnsatisfiable != corev1.DoNotSchedule {
			continue
		}
		value, has := n.node.Labels[sc.TopologyKey]
		if !has {
			return []string{reasonSpreadLabel}
		}
		if sc.counts[value]+sc.self-sc.fewest() > int(sc.MaxSkew) {
			return []string{reasonSpread}
		}
	}
	return nil
}
