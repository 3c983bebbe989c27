package replicaset

import (
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/services/loop"
	"github.com/orlog-io/orlog/services/reconcilers/replica"
)

// burst is how many pods one decision creates or deletes at most.
const burst = 500

// Reconciler decides about ReplicaSets.
type Reconciler struct{}

// Spec declares what the reconciler reads and writes.
func (Reconciler) Spec() loop.Spec {
	return loop.Spec{
		Name:     "replicaset",
		Identity: loop.ServiceAccount("replicaset-controller"),
		Inputs: []loop.Input{
			{Group: "apps", Resource: "replicasets", Keys: loop.Itself},
			{Resource: "pods", Keys: ofPod},
		},
		Outputs: []loop.Output{
			{Group: "apps", Resource: "replicasets", Subresource: "status"},
			{Resource: "pods", Shared: true},
		},
		Workers: 4,
	}
}

// ofPod maps a pod to the ReplicaSet that controls it (and the one that did), an orphan to those that might.
func ofPod(v *loop.View, c loop.Change) []events.Key {
	var out []events.Key
	prev, next := loop.Pods.Of(v, c.Prev), loop.Pods.Of(v, c.Next)
	for _, p := range []*corev1.Pod{prev, next} {
		if p == nil {
			continue
		}
		if ref := metav1.GetControllerOfNoCopy(p); ref != nil && ref.Kind == loop.ReplicaSets.Kind {
			out = append(out, loop.ReplicaSets.Key(p.Namespace, ref.Name))
		}
	}
	if next != nil && metav1.GetControllerOfNoCopy(next) == nil && next.DeletionTimestamp == nil {
		for _, rs := range loop.ReplicaSets.List(v, next.Namespace) {
			if s, err := metav1.LabelSelectorAsSelector(rs.Spec.Selector); err == nil && !s.Empty() && s.Matches(labels.Set(next.Labels)) {
				out = append(out, loop.ReplicaSets.KeyOf(rs))
			}
		}
	}
	return out
}

// Decide decides about one ReplicaSet.
func (Reconciler) Decide(v *loop.View, key events.Key, now time.Time) loop.Decision {
	rs := loop.ReplicaSets.At(v, key)
	if rs == nil {
		return loop.Decision{}
	}
	return Set{ReplicaSet: rs, Kind: loop.ReplicaSets.GVK(), related: related, Report: func(status appsv1.ReplicaSetStatus) (loop.Effect, bool) {
		next := rs.DeepCopy()
		next.Status = status
		return loop.ReplicaSets.UpdateStatus(next), equality.Semantic.DeepEqual(rs.Status, status)
	}}.Decide(v, now)
}

// related returns the active pods of all ReplicaSets that share rs's controller, rs itself included.
func related(v *loop.View, rs *appsv1.ReplicaSet) []*corev1.Pod {
	family := []*appsv1.ReplicaSet{rs}
	if owner := metav1.GetControllerOfNoCopy(rs); owner != nil {
		family = loop.ReplicaSets.OwnedBy(v, string(owner.UID))
	}
	var out []*corev1.Pod
	for _, member := range family {
		for _, p := range loop.Pods.OwnedBy(v, string(member.UID)) {
			if replica.Active(p) {
				out = append(out, p)
			}
		}
	}
	return out
}

// statusOf counts, and says when the next pod becomes available (0: none will by itself).
func statusOf(rs *appsv1.ReplicaSet, active, ending []*corev1.Pod, now time.Time) (appsv1.ReplicaSetStatus, time.Duration) {
	terminating := int32(len(ending))
	s := appsv1.ReplicaSetStatus{Replicas: int32(len(active)), TerminatingReplicas: &terminating,
		ObservedGeneration: rs.Generation, Conditions: rs.Status.Conditions}
	template := labels.SelectorFromSet(rs.Spec.Template.Labels)
	var soonest time.Duration
	for _, p := range active {
		if template.Matches(labels.Set(p.Labels)) {
			s.FullyLabeledReplicas++
		}
		if replica.Ready(p) == nil {
			continue
		}
		s.ReadyReplicas++
		available, wait := replica.Available(p, rs.Spec.MinReadySeconds, now)
		if available {
			s.AvailableReplicas++
		} else if wait > 0 && (soonest == 0 || wait < soonest) {
			soonest = wait
		}
	}
	return s, soonest
}
