package nodelifecycle

import (
	"cmp"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/services/loop"
)

// gracePeriod is how long a node may be silent.
const gracePeriod = 40 * time.Second

// Nodes decides about nodes' conditions and taints.
type Nodes struct{}

// Spec declares what the reconciler reads and writes.
func (Nodes) Spec() loop.Spec {
	return loop.Spec{
		Name:     "nodelifecycle",
		Identity: loop.ServiceAccount("node-controller"),
		Inputs: []loop.Input{
			{Resource: "nodes", Keys: loop.Itself},
			{Group: "coordination.k8s.io", Resource: "leases", Keys: ofLease},
		},
		// The node's agent reports the same status while it can.
		Outputs: []loop.Output{{Resource: "nodes", Shared: true}, {Resource: "nodes", Subresource: "status", Shared: true}},
		Workers: 2,
	}
}

func ofLease(_ *loop.View, c loop.Change) []events.Key {
	if c.Next.Key.Namespace != corev1.NamespaceNodeLease {
		return nil
	}
	return []events.Key{loop.Nodes.Key("", c.Next.Key.Name)}
}

// Decide decides about one node.
func (Nodes) Decide(v *loop.View, key events.Key, now time.Time) (d loop.Decision) {
	seen := loop.Nodes.At(v, key)
	if seen == nil || seen.DeletionTimestamp != nil {
		return d
	}
	if left := lastHeartbeat(v, seen).Add(gracePeriod).Sub(now); left > 0 {
		d.AgainIn(left)
	} else if next := seen.DeepCopy(); silence(next, now) {
		d.Do(loop.Nodes.UpdateStatus(next))
		return d // the taints follow when the conditions have changed
	}
	if taints, changed := wantedTaints(seen, now); changed {
		next := seen.DeepCopy()
		next.Spec.Taints = taints
		d.Do(loop.Nodes.Update(next))
	}
	return d
}

// lastHeartbeat is the newest sign of life: the lease, a condition's heartbeat, or the node's creation.
func lastHeartbeat(v *loop.View, n *corev1.Node) time.Time {
	last := n.CreationTimestamp.Time
	if l := loop.Leases.Get(v, corev1.NamespaceNodeLease, n.Name); l != nil && l.Spec.RenewTime != nil && l.Spec.RenewTime.After(last) {
		last = l.Spec.RenewTime.Time
	}
	if c := condition(n, corev1.NodeReady); c != nil && c.LastHeartbeatTime.After(last) {
		last = c.LastHeartbeatTime.Time
	}
	return last
}

func condition(n *corev1.Node, t corev1.NodeConditionType) *corev1.NodeCondition {
	for i := range n.Status.Conditions {
		if n.Status.Conditions[i].Type == t {
			return &n.Status.Conditions[i]
		}
	}
	return nil
}

// silence makes what the node used to report unknown; false where it is so already.
func silence(n *corev1.Node, now time.Time) bool {
	changed := false
	for _, t := range []corev1.NodeConditionType{corev1.NodeReady, corev1.NodeMemoryPressure, corev1.NodeDiskPressure, corev1.NodePIDPressure} {
		switch c := condition(n, t); {
		case c == nil:
			n.Status.Conditions = append(n.Status.Conditions, corev1.NodeCondition{Type: t, Status: corev1.ConditionUnknown, Reason: "NodeStatusNeverUpdated",
				Message: "Kubelet never posted node status.", LastHeartbeatTime: n.CreationTimestamp, LastTransitionTime: metav1.NewTime(now)})
			changed = true
		case c.Status != corev1.ConditionUnknown:
			c.Status, c.Reason, c.Message, c.LastTransitionTime = corev1.ConditionUnknown, "NodeStatusUnknown", "Kubelet stopped posting node status.", metav1.NewTime(now)
			changed = true
		}
	}
	return changed
}

// own are the taints that follow from conditions and from cordoning: nobody else sets them.
func own(n *corev1.Node) map[corev1.Taint]bool {
	taint := func(key string, effect corev1.TaintEffect) corev1.Taint {
		return corev1.Taint{Key: key, Effect: effect}
	}
	is := func(t corev1.NodeConditionType, s corev1.ConditionStatus) bool {
		c := condition(n, t)
		return c != nil && c.Status == s
	}
	notReady, unreachable := is(corev1.NodeReady, corev1.ConditionFalse), is(corev1.NodeReady, corev1.ConditionUnknown)
	unborn := condition(n, corev1.NodeReady) == nil // admission has tainted it: as not ready until it reports
	return map[corev1.Taint]bool{
		taint(corev1.TaintNodeNotReady, corev1.TaintEffectNoSchedule):           notReady || unborn,
		taint(corev1.TaintNodeNotReady, corev1.TaintEffectNoExecute):            notReady,
		taint(corev1.TaintNodeUnreachable, corev1.TaintEffectNoSchedule):        unreachable,
		taint(corev1.TaintNodeUnreachable, corev1.TaintEffectNoExecute):         unreachable,
		taint(corev1.TaintNodeMemoryPressure, corev1.TaintEffectNoSchedule):     is(corev1.NodeMemoryPressure, corev1.ConditionTrue),
		taint(corev1.TaintNodeDiskPressure, corev1.TaintEffectNoSchedule):       is(corev1.NodeDiskPressure, corev1.ConditionTrue),
		taint(corev1.TaintNodePIDPressure, corev1.TaintEffectNoSchedule):        is(corev1.NodePIDPressure, corev1.ConditionTrue),
		taint(corev1.TaintNodeNetworkUnavailable, corev1.TaintEffectNoSchedule): is(corev1.NodeNetworkUnavailable, corev1.ConditionTrue),
		taint(corev1.TaintNodeUnschedulable, corev1.TaintEffectNoSchedule):      n.Spec.Unschedulable,
	}
}

// wantedTaints are the node's taints with its own ones as they should be.
func wantedTaints(n *corev1.Node, now time.Time) ([]corev1.Taint, bool) {
	want := own(n)
	var out []corev1.Taint
	have := map[corev1.Taint]bool{}
	changed := false
	for _, t := range n.Spec.Taints {
		id := corev1.Taint{Key: t.Key, Effect: t.Effect}
		if on, mine := want[id]; mine && !on {
			changed = true
			continue
		}
		have[id] = true
		out = append(out, t)
	}
	var missing []corev1.Taint
	for id, on := range want {
		if on && !have[id] {
			if id.Effect == corev1.TaintEffectNoExecute {
				id.TimeAdded = &metav1.Time{Time: now}
			}
			missing = append(missing, id)
		}
	}
	slices.SortFunc(missing, func(a, b corev1.Taint) int {
		return cmp.Or(cmp.Compare(a.Key, b.Key), cmp.Compare(a.Effect, b.Effect))
	})
	return append(out, missing...), changed || len(missing) > 0
}
