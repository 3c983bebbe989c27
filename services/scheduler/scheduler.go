package scheduler

import (
	"cmp"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/services/loop"
)

// Name is the schedulerName of the pods that this scheduler places.
const Name = corev1.DefaultSchedulerName

// batch is how many pods are placed on one snapshot and bound in one durable write at most.
const batch = 128

// Scheduler decides about pending pods.
type Scheduler struct {
	// NoPreemption: pods of lower priority are left alone, as nobody could delete them.
	NoPreemption bool
}

// Spec declares what the scheduler reads and writes.
func (Scheduler) Spec() loop.Spec {
	return loop.Spec{
		Name:     "scheduler",
		Identity: loop.Identity{User: "system:kube-scheduler", Groups: []string{"system:authenticated"}},
		Inputs: []loop.Input{
			{Resource: "pods", Keys: pendingPod, Wakes: podFrees},
			{Resource: "nodes", Wakes: nodeChanged},
			{Resource: "namespaces"},
			{Group: "policy", Resource: "poddisruptionbudgets"},
		},
		Outputs: []loop.Output{{Resource: "pods", Shared: true}, {Resource: "pods", Subresource: "status", Shared: true}},
		Serial:  true,
		Batch:   batch,
	}
}

func pendingPod(v *loop.View, c loop.Change) []events.Key {
	if p := loop.Pods.Of(v, c.Next); p != nil && pending(p) {
		return []events.Key{c.Next.Key}
	}
	return nil
}

// pending says whether a pod waits for this scheduler.
func pending(p *corev1.Pod) bool {
	return p.Spec.NodeName == "" && p.Spec.SchedulerName == Name && len(p.Spec.SchedulingGates) == 0 &&
		p.DeletionTimestamp == nil && !finished(p)
}

func finished(p *corev1.Pod) bool {
	return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
}

// podFrees says whether a change of a bound pod may let another pod in: it has gone or finished and frees
// what it used, or it has come or changed labels, which affinities look at.
func podFrees(v *loop.View, c loop.Change) bool {
	prev, next := loop.Pods.Of(v, c.Prev), loop.Pods.Of(v, c.Next)
	if next == nil {
		return prev != nil && (prev.Spec.NodeName != "" || prev.Status.NominatedNodeName != "")
	}
	if next.Spec.NodeName == "" { // room that was kept for it may be free again
		return prev != nil && prev.Status.NominatedNodeName != "" && prev.Status.NominatedNodeName != next.Status.NominatedNodeName
	}
	return prev == nil || prev.Spec.NodeName == "" || (finished(next) && !finished(prev)) || !equality.Semantic.DeepEqual(prev.Labels, next.Labels)
}

func nodeChanged(v *loop.View, c loop.Change) bool {
	prev, next := loop.Nodes.Of(v, c.Prev), loop.Nodes.Of(v, c.Next)
	if next == nil {
		return false
	}
	return prev == nil || prev.Spec.Unschedulable != next.Spec.Unschedulable ||
		!equality.Semantic.DeepEqual(prev.Spec.Taints, next.Spec.Taints) ||
		!equality.Semantic.DeepEqual(prev.Labels, next.Labels) ||
		!equality.Semantic.DeepEqual(prev.Status.Allocatable, next.Status.Allocatable)
}

// Decide decides about one pod.
func (s Scheduler) Decide(v *loop.View, key events.Key, now time.Time) loop.Decision {
	return s.DecideAll(v, []loop.Item{{Key: key, Cause: v.Cause}}, now)[0]
}

// DecideAll decides about pods in the order of their priority and age; each placed pod takes room from those
// after it.
func (s Scheduler) DecideAll(v *loop.View, keys []loop.Item, now time.Time) []loop.Decision {
	out := make([]loop.Decision, len(keys))
	var todo []candidate
	for i, k := range keys {
		state, ok := v.State(k.Key)
		if !ok {
			continue
		}
		if p := loop.Pods.Of(v, state); p != nil && pending(p) {
			todo = append(todo, candidate{i, p, state})
		}
	}
	if len(todo) == 0 {
		return out
	}
	slices.SortStableFunc(todo, func(a, b candidate) int {
		return cmp.Or(-cmp.Compare(priority(a.pod), priority(b.pod)), cmp.Compare(a.state.Created, b.state.Created), cmp.Compare(a.pod.Name, b.pod.Name))
	})
	snap := takeSnapshot(v)
	placed := 0
	for _, c := range todo {
		r := snap.place(c.pod)
		r.View, r.Assumed = v.Sequence(), placed
		if r.Node == "" {
			victims := s.makeRoom(v, snap, c, &r)
			out[c.at] = unschedulable(v, c, r, victims, now)
			continue
		}
		snap.nominate(c.pod, "")
		snap.assume(c.pod, r.Node)
		placed++
		out[c.at] = bind(v, c, r, now)
	}
	return out
}

// makeRoom says in the record on which node room is made for a pod, and returns who has to go for it.
func (s Scheduler) makeRoom(v *loop.View, snap *snapshot, c candidate, r *Record) []*corev1.Pod {
	if s.NoPreemption {
		return nil
	}
	best, waits := snap.preempt(c.pod, r.helpful, loop.Budgets.List(v, ""))
	if waits {
		r.Nominated = c.pod.Status.NominatedNodeName
		return nil
	}
	if best == nil {
		snap.nominate(c.pod, "")
		return nil
	}
	r.Nominated = best.node.node.Name
	snap.nominate(c.pod, r.Nominated)
	for _, victim := range best.victims {
		snap.doomed[victim] = true
		r.Preempts = append(r.Preempts, victim.Namespace+"/"+victim.Name)
	}
	return best.victims
}

// candidate is a pod to be placed, with its place in the batch.
type candidate struct {
	at    int
	pod   *corev1.Pod
	state events.State
}

func priority(p *corev1.Pod) int32 {
	if p.Spec.Priority != nil {
		return *p.Spec.Priority
	}
	return 0
}

// place finds the best node for a pod.
func (s *snapshot) place(p *corev1.Pod) Record {
	ask := s.ask(p)
	r := newRecord(len(s.nodes))
	var feasible []*nodeInfo
	for _, n := range s.nodes {
		filter, reasons := ask.filter(n)
		if len(reasons) > 0 {
			r.refuse(n, filter, reasons)
			continue
		}
		feasible = append(feasible, n)
	}
	r.Feasible = len(feasible)
	if len(feasible) == 0 {
		r.Message = r.explain()
		return r
	}
	if i := slices.IndexFunc(feasible, func(n *nodeInfo) bool { return n.node.Name == p.Status.NominatedNodeName }); i >= 0 {
		feasible = feasible[i : i+1] // the room that was made for it
	}
	r.choose(ask.rank(feasible))
	return r
}
