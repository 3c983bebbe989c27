package scheduler

import (
	"cmp"
	"math"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// mostCandidates is on how many nodes room is looked for at most.
const mostCandidates = 100

// resolvable are the filters whose refusal may end with the pods on the node.
var resolvable = map[string]bool{"NodePorts": true, "NodeResourcesFit": true, "PodTopologySpread": true, "InterPodAffinity": true}

// room is a node with the pods that have to go from it before another fits.
type room struct {
	node       *nodeInfo
	victims    []*corev1.Pod // most important first; none: those that have to go are going already
	violations int           // of disruption budgets
}

// preempt finds the node on which a pod that fits nowhere would, at the least cost, if pods of lower priority
// went. nil: there is none, or the pod may not ask for it. waits: it has asked already and those pods are going.
func (s *snapshot) preempt(p *corev1.Pod, helpful []*nodeInfo, budgets []*policyv1.PodDisruptionBudget) (best *room, waits bool) {
	if p.Spec.PreemptionPolicy != nil && *p.Spec.PreemptionPolicy == corev1.PreemptNever {
		return nil, false
	}
	if n := s.byName[p.Status.NominatedNodeName]; n != nil && slices.Contains(helpful, n) && slices.ContainsFunc(n.pods, func(other *corev1.Pod) bool {
		return priority(other) < priority(p) && s.going(other)
	}) {
		return nil, true
	}
	found := 0
	for _, n := range helpful {
		r := s.clear(p, n, budgets)
		if r == nil {
			continue
		}
		if best == nil || cheaper(r, best) {
			best = r
		}
		if found++; found == mostCandidates {
			break
		}
	}
	return best, false
}

func (s *snapshot) going(p *corev1.Pod) bool { return p.DeletionTimestamp != nil || s.doomed[p] }

// clear works out which pods have to go from a node: all of lower priority but for those that fit in beside the
// pod, the ones that budgets protect and the most important being spared first. nil: even then it does not fit.
func (s *snapshot) clear(p *corev1.Pod, n *nodeInfo, budgets []*policyv1.PodDisruptionBudget) *room {
	var stay, lower []*corev1.Pod
	any := false
	for _, other := range n.pods {
		switch {
		case priority(other) >= priority(p):
			stay = append(stay, other)
		case s.going(other):
			any = true
		default:
			any = true
			lower = append(lower, other)
		}
	}
	if !any || !s.fitsBeside(p, n, stay) {
		return nil
	}
	slices.SortStableFunc(lower, moreImportant)
	out := &room{node: n}
	protected, free := protect(lower, budgets)
	for i, list := range [][]*corev1.Pod{protected, free} {
		for _, other := range list {
			if with := append(slices.Clone(stay), other); s.fitsBeside(p, n, with) {
				stay = with
				continue
			}
			out.victims = append(out.victims, other)
			if i == 0 {
				out.violations++
			}
		}
	}
	slices.SortStableFunc(out.victims, moreImportant)
	return out
}

// fitsBeside asks all filters about a node as if only the given pods ran on it.
func (s *snapshot) fitsBeside(p *corev1.Pod, n *nodeInfo, pods []*corev1.Pod) bool {
	as := &snapshot{byName: map[string]*nodeInfo{}, nominated: s.nominated, namespaces: s.namespaces}
	then := &nodeInfo{node: n.node, room: n.room, used: amounts{}, guess: amounts{}, ports: map[port]bool{}}
	as.nodes = slices.Clone(s.nodes)
	as.nodes[slices.Index(s.nodes, n)] = then
	for _, other := range s.averse {
		if other.node != n {
			as.averse = append(as.averse, other)
		}
	}
	as.byName[n.node.Name] = then
	for _, other := range pods {
		as.assume(other, n.node.Name)
	}
	_, reasons := as.ask(p).filter(then)
	return len(reasons) == 0
}

// moreImportant orders pods by priority, then by how long they have run.
func moreImportant(a, b *corev1.Pod) int {
	return cmp.Or(-cmp.Compare(priority(a), priority(b)), startOf(a).Compare(startOf(b)), cmp.Compare(a.UID, b.UID))
}

func startOf(p *corev1.Pod) time.Time {
	if p.Status.StartTime != nil {
		return p.Status.StartTime.Time
	}
	return p.CreationTimestamp.Time
}

// protect sorts out the pods whose eviction would break a disruption budget.
func protect(pods []*corev1.Pod, budgets []*policyv1.PodDisruptionBudget) (protected, free []*corev1.Pod) {
	left := make([]int32, len(budgets))
	for i, b := range budgets {
		left[i] = b.Status.DisruptionsAllowed
	}
	for _, p := range pods {
		broken := false
		for i, b := range budgets {
			selector, err := metav1.LabelSelectorAsSelector(b.Spec.Selector)
			if b.Namespace != p.Namespace || err != nil || selector.Empty() || !selector.Matches(labels.Set(p.Labels)) {
				continue
			}
			if _, granted := b.Status.DisruptedPods[p.Name]; granted {
				continue // it was counted when its eviction was granted
			}
			left[i]--
			broken = broken || left[i] < 0
		}
		if broken {
			protected = append(protected, p)
		} else {
			free = append(free, p)
		}
	}
	return protected, free
}

// cheaper compares rooms as upstream does: fewer broken budgets, lower highest priority, lower sum of
// priorities, fewer victims, and the most important of them started later.
func cheaper(a, b *room) bool {
	return cmp.Or(
		cmp.Compare(a.violations, b.violations),
		cmp.Compare(a.highest(), b.highest()),
		cmp.Compare(a.sum(), b.sum()),
		cmp.Compare(len(a.victims), len(b.victims)),
		-a.began().Compare(b.began()),
	) < 0
}

func (r *room) highest() int64 {
	if len(r.victims) == 0 {
		return math.MinInt64
	}
	return int64(priority(r.victims[0]))
}

// sum lifts each priority above zero, so that more victims of negative priority are not cheaper than fewer.
func (r *room) sum() int64 {
	var sum int64
	for _, p := range r.victims {
		sum += int64(priority(p)) + math.MaxInt32 + 1
	}
	return sum
}

// began is when the first of the most important victims started.
func (r *room) began() time.Time {
	if len(r.victims) == 0 {
		return time.Time{}
	}
	return startOf(r.victims[0])
}

// nominate keeps a room for a pod: it counts against pods of no higher priority from now on.
func (s *snapshot) nominate(p *corev1.Pod, node string) {
	for name := range s.nominated {
		s.nominated[name] = slices.DeleteFunc(slices.Clone(s.nominated[name]), func(o *corev1.Pod) bool { return o.UID == p.UID })
	}
	if node != "" {
		s.nominated[node] = append(s.nominated[node], p)
	}
}

// kept is a node with what is kept for pods of no lower priority than the asking one.
func (a *ask) kept(n *nodeInfo) *nodeInfo {
	var more []*corev1.Pod
	for _, p := range a.s.nominated[n.node.Name] {
		if p.UID != a.pod.UID && priority(p) >= priority(a.pod) {
			more = append(more, p)
		}
	}
	if len(more) == 0 {
		return n
	}
	full := &snapshot{byName: map[string]*nodeInfo{}}
	out := &nodeInfo{node: n.node, room: n.room, used: amounts{}, guess: amounts{}, ports: map[port]bool{}}
	full.byName[n.node.Name] = out
	for _, p := range slices.Concat(n.pods, more) {
		full.assume(p, n.node.Name)
	}
	return out
}
