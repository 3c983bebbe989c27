package scheduler

import (
	"cmp"
	"hash/fnv"
	"math"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
)

// most is the best score that one scorer gives.
const most = 100

// scorers give each node a raw score; those with normalise are stretched to 0..most over all feasible nodes.
var scorers = []struct {
	name      string
	weight    int64
	normalise bool
	score     func(*ask, *nodeInfo) int64
}{
	{"LeastAllocated", 1, false, (*ask).leastAllocated},
	{"BalancedAllocation", 1, false, (*ask).balanced},
	{"NodeAffinity", 2, true, (*ask).preferred},
	{"TaintToleration", 3, true, (*ask).preferNoSchedule},
	{"PodTopologySpread", 2, true, (*ask).spreadScore},
	{"InterPodAffinity", 2, true, (*ask).likes},
	{"OwnerSpread", 2, true, (*ask).siblings},
}

// ranked is a feasible node with its weighted scores by scorer.
type ranked struct {
	node   *nodeInfo
	total  int64
	scores map[string]int64
	tie    uint64
}

// rank scores feasible nodes, best first. Equal nodes are ordered by a hash of pod and node, so that equal
// pods spread and yet every replay chooses the same.
func (a *ask) rank(feasible []*nodeInfo) []ranked {
	out := make([]ranked, len(feasible))
	for i, n := range feasible {
		h := fnv.New64a()
		h.Write([]byte(string(a.pod.UID) + "/" + n.node.Name))
		out[i] = ranked{node: n, scores: map[string]int64{}, tie: h.Sum64()}
	}
	if len(out) == 1 {
		return out // nothing to compare
	}
	raw := make([]int64, len(out))
	for _, s := range scorers {
		for i := range out {
			raw[i] = s.score(a, out[i].node)
		}
		if s.normalise && !stretch(raw) {
			continue // all alike: says nothing
		}
		for i := range out {
			out[i].scores[s.name] = s.weight * raw[i]
			out[i].total += s.weight * raw[i]
		}
	}
	slices.SortFunc(out, func(a, b ranked) int {
		return cmp.Or(-cmp.Compare(a.total, b.total), cmp.Compare(a.tie, b.tie), cmp.Compare(a.node.node.Name, b.node.node.Name))
	})
	return out
}

// stretch maps raw scores onto 0..most; false where they are all equal.
func stretch(raw []int64) bool {
	low, high := slices.Min(raw), slices.Max(raw)
	if low == high {
		return false
	}
	for i := range raw {
		raw[i] = most * (raw[i] - low) / (high - low)
	}
	return true
}

// share is how much of a resource would be used with the pod on the node, 0..1.
func (a *ask) share(n *nodeInfo, name corev1.ResourceName) float64 {
	room := n.room[name]
	if room <= 0 {
		return 1
	}
	return min(1, float64(n.guess[name]+a.guess[name])/float64(room))
}

func (a *ask) leastAllocated(n *nodeInfo) int64 {
	free := 2 - a.share(n, corev1.ResourceCPU) - a.share(n, corev1.ResourceMemory)
	return int64(most * free / 2)
}

func (a *ask) balanced(n *nodeInfo) int64 {
	cpu, memory := a.share(n, corev1.ResourceCPU), a.share(n, corev1.ResourceMemory)
	return int64(most * (1 - math.Abs(cpu-memory)/2))
}

func (a *ask) preferred(n *nodeInfo) int64 {
	if a.pod.Spec.Affinity == nil || a.pod.Spec.Affinity.NodeAffinity == nil {
		return 0
	}
	terms, err := nodeaffinity.NewPreferredSchedulingTerms(a.pod.Spec.Affinity.NodeAffinity.PreferredDuringSchedulingIgnoredDuringExecution)
	if err != nil {
		return 0
	}
	return terms.Score(n.node)
}

func (a *ask) preferNoSchedule(n *nodeInfo) int64 {
	var bad int64
	for i := range n.node.Spec.Taints {
		if t := &n.node.Spec.Taints[i]; t.Effect == corev1.TaintEffectPreferNoSchedule && !a.tolerated(t) {
			bad++
		}
	}
	return -bad
}

func (a *ask) spreadScore(n *nodeInfo) int64 {
	var crowd int64
	for _, sc := range a.spread {
		if sc.WhenUnsatisfiable == corev1.ScheduleAnyway {
			crowd += int64(sc.counts[n.node.Labels[sc.TopologyKey]])
		}
	}
	return -crowd
}

func (a *ask) likes(n *nodeInfo) int64 {
	var sum int64
	for d, weight := range a.affinity.liked {
		if value, has := n.node.Labels[d.key]; has && value == d.value {
			sum += weight
		}
	}
	return sum
}

// siblings keeps the pods of one controller apart.
func (a *ask) siblings(n *nodeInfo) int64 {
	owner := metav1.GetControllerOfNoCopy(a.pod)
	if owner == nil {
		return 0
	}
	var same int64
	for _, p := range n.pods {
		if c := metav1.GetControllerOfNoCopy(p); c != nil && c.UID == owner.UID {
			same++
		}
	}
	return -same
}
