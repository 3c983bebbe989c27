package replicationcontroller

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
	"github.com/orlog-io/orlog/services/reconcilers/replicaset"
)

// Reconciler decides about ReplicationControllers.
type Reconciler struct{}

// Spec declares what the reconciler reads and writes.
func (Reconciler) Spec() loop.Spec {
	return loop.Spec{
		Name:     "replicationcontroller",
		Identity: loop.ServiceAccount("replication-controller"),
		Inputs: []loop.Input{
			{Resource: "replicationcontrollers", Keys: loop.Itself},
			{Resource: "pods", Keys: ofPod},
		},
		Outputs: []loop.Output{
			{Resource: "replicationcontrollers", Subresource: "status"},
			{Resource: "pods", Shared: true},
		},
	}
}

// ofPod maps a pod to what controls it or did, an orphan to what might.
func ofPod(v *loop.View, c loop.Change) []events.Key {
	prev, next := loop.Pods.Of(v, c.Prev), loop.Pods.Of(v, c.Next)
	out := replica.Controllers(loop.ReplicationControllers, prev, next)
	if next != nil && metav1.GetControllerOfNoCopy(next) == nil && next.DeletionTimestamp == nil {
		for _, rc := range loop.ReplicationControllers.List(v, next.Namespace) {
			if len(rc.Spec.Selector) > 0 && labels.SelectorFromSet(rc.Spec.Selector).Matches(labels.Set(next.Labels)) {
				out = append(out, loop.ReplicationControllers.KeyOf(rc))
			}
		}
	}
	return out
}

// Decide decides about one ReplicationController.
func (Reconciler) Decide(v *loop.View, key events.Key, now time.Time) loop.Decision {
	rc := loop.ReplicationControllers.At(v, key)
	if rc == nil || rc.Spec.Template == nil || len(rc.Spec.Selector) == 0 {
		return loop.Decision{}
	}
	return replicaset.Set{ReplicaSet: asSet(rc), Kind: loop.ReplicationControllers.GVK(), Report: func(s appsv1.ReplicaSetStatus) (loop.Effect, bool) {
		next := rc.DeepCopy()
		next.Status = statusFrom(s)
		return loop.ReplicationControllers.UpdateStatus(next), equality.Semantic.DeepEqual(rc.Status, next.Status)
	}}.Decide(v, now)
}

func asSet(rc *corev1.ReplicationController) *appsv1.ReplicaSet {
	return &appsv1.ReplicaSet{
		ObjectMeta: rc.ObjectMeta,
		Spec: appsv1.ReplicaSetSpec{Replicas: rc.Spec.Replicas, MinReadySeconds: rc.Spec.MinReadySeconds,
			Selector: &metav1.LabelSelector{MatchLabels: rc.Spec.Selector}, Template: *rc.Spec.Template},
		Status: appsv1.ReplicaSetStatus{Conditions: convert(rc.Status.Conditions, func(c corev1.ReplicationControllerCondition) appsv1.ReplicaSetCondition {
			return appsv1.ReplicaSetCondition{Type: appsv1.ReplicaSetConditionType(c.Type), Status: c.Status, LastTransitionTime: c.LastTransitionTime, Reason: c.Reason, Message: c.Message}
		})},
	}
}

func statusFrom(s appsv1.ReplicaSetStatus) corev1.ReplicationControllerStatus {
	return corev1.ReplicationControllerStatus{Replicas: s.Replicas, FullyLabeledReplicas: s.FullyLabeledReplicas, ReadyReplicas: s.ReadyReplicas,
		AvailableReplicas: s.AvailableReplicas, ObservedGeneration: s.ObservedGeneration,
		Conditions: convert(s.Conditions, func(c appsv1.ReplicaSetCondition) corev1.ReplicationControllerCondition {
			return corev1.ReplicationControllerCondition{Type: corev1.ReplicationControllerConditionType(c.Type), Status: c.Status,
				LastTransitionTime: c.LastTransitionTime, Reason: c.Reason, Message: c.Message}
		})}
}

func convert[A, B any](in []A, f func(A) B) []B {
	var out []B
	for _, x := range in {
		out = append(out, f(x))
	}
	return out
}
