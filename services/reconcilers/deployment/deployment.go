package deployment

import (
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/services/loop"
	"github.com/orlog-io/orlog/services/reconcilers/claim"
	"github.com/orlog-io/orlog/services/reconcilers/replica"
)

// Reconciler decides about Deployments.
type Reconciler struct{}

// Spec declares what the reconciler reads and writes.
func (Reconciler) Spec() loop.Spec {
	return loop.Spec{
		Name:     "deployment",
		Identity: loop.ServiceAccount("deployment-controller"),
		Inputs: []loop.Input{
			{Group: "apps", Resource: "deployments", Keys: loop.Itself},
			{Group: "apps", Resource: "replicasets", Keys: ofReplicaSet},
			{Resource: "pods", Keys: ofEndedPod},
		},
		Outputs: []loop.Output{
			{Group: "apps", Resource: "deployments", Subresource: "status"},
			{Group: "apps", Resource: "replicasets", Shared: true},
		},
		Workers: 4,
	}
}

func ofReplicaSet(v *loop.View, c loop.Change) []events.Key {
	var out []events.Key
	prev, next := loop.ReplicaSets.Of(v, c.Prev), loop.ReplicaSets.Of(v, c.Next)
	for _, rs := range []*appsv1.ReplicaSet{prev, next} {
		if rs == nil {
			continue
		}
		if ref := metav1.GetControllerOfNoCopy(rs); ref != nil && ref.Kind == loop.Deployments.Kind {
			out = append(out, loop.Deployments.Key(rs.Namespace, ref.Name))
		}
	}
	if next != nil && metav1.GetControllerOfNoCopy(next) == nil && next.DeletionTimestamp == nil {
		for _, d := range loop.Deployments.List(v, next.Namespace) {
			if s, err := metav1.LabelSelectorAsSelector(d.Spec.Selector); err == nil && !s.Empty() && s.Matches(labels.Set(next.Labels)) {
				out = append(out, loop.Deployments.KeyOf(d))
			}
		}
	}
	return out
}

// ofEndedPod tells a Deployment that recreates its pods that one of them has gone.
func ofEndedPod(v *loop.View, c loop.Change) []events.Key {
	prev, next := loop.Pods.Of(v, c.Prev), loop.Pods.Of(v, c.Next)
	if prev == nil || (next != nil && !replica.Finished(next)) {
		return nil
	}
	ref := metav1.GetControllerOfNoCopy(prev)
	if ref == nil || ref.Kind != loop.ReplicaSets.Kind {
		return nil
	}
	rs := loop.ReplicaSets.Get(v, prev.Namespace, ref.Name)
	if rs == nil {
		return nil
	}
	if ref = metav1.GetControllerOfNoCopy(rs); ref == nil || ref.Kind != loop.Deployments.Kind {
		return nil
	}
	d := loop.Deployments.Get(v, rs.Namespace, ref.Name)
	if d == nil || d.Spec.Strategy.Type != appsv1.RecreateDeploymentStrategyType {
		return nil
	}
	return []events.Key{loop.Deployments.KeyOf(d)}
}

// Decide decides about one Deployment.
func (Reconciler) Decide(v *loop.View, key events.Key, now time.Time) (out loop.Decision) {
	seen := loop.Deployments.At(v, key)
	if seen == nil {
		return out
	}
	selector, err := metav1.LabelSelectorAsSelector(seen.Spec.Selector)
	if err != nil || selector.Empty() {
		return out // the API admits neither
	}
	ref := *metav1.NewControllerRef(seen, loop.Deployments.GVK())
	sets, claims := claim.Of(v, loop.ReplicaSets, seen, ref, selector, nil)
	out.Do(claims...)
	if len(claims) > 0 {
		return out // its own writes make it dirty again, on a view where the families are settled
	}
	r := newRollout(v, seen, sets, now)
	r.run(ref)
	r.effects(&out)
	return out
}

// run applies the rules in upstream's order; each may edit the rollout, and the first that moves replicas
// ends the round.
func (r *rollout) run(ref metav1.OwnerReference) {
	switch {
	case r.d.DeletionTimestamp != nil:
		r.count()
	case r.d.Spec.Paused:
		r.pauseCondition()
		r.syncRevision()
		r.scale()
		if r.complete(&r.d.Status) {
			r.cleanUp()
		}
		r.count()
	case r.scaled():
		r.pauseCondition()
		r.syncRevision()
		r.scale()
		r.count()
	case r.d.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType:
		r.pauseCondition()
		r.recreate(ref)
		r.progress()
	default:
		r.pauseCondition()
		r.roll(ref)
		r.progress()
	}
}

// podsOf returns the pods that a ReplicaSet controls.
func (r *rollout) podsOf(rs *appsv1.ReplicaSet) []*corev1.Pod {
	var out []*corev1.Pod
	for _, p := range loop.Pods.OwnedBy(r.v, string(rs.UID)) {
		if c := metav1.GetControllerOfNoCopy(p); c != nil && c.UID == rs.UID {
			out = append(out, p)
		}
	}
	return out
}
