package disruption

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/services/loop"
	"github.com/orlog-io/orlog/services/reconcilers/replica"
)

// deletionTimeout is how long an evicted pod may take to be deleted before it counts as running on.
const deletionTimeout = 2 * time.Minute

// Reconciler decides about PodDisruptionBudgets.
type Reconciler struct{}

// Spec declares what the reconciler reads and writes.
func (Reconciler) Spec() loop.Spec {
	spec := loop.Spec{
		Name:     "disruption",
		Identity: loop.ServiceAccount("disruption-controller"),
		Inputs: []loop.Input{
			{Group: "policy", Resource: "poddisruptionbudgets", Keys: loop.Itself},
			{Resource: "pods", Keys: ofPod},
		},
		Outputs: []loop.Output{{Group: "policy", Resource: "poddisruptionbudgets", Subresource: "status"}},
	}
	for _, g := range []struct{ group, resource string }{{"apps", "deployments"}, {"apps", "replicasets"}, {"apps", "statefulsets"}, {"", "replicationcontrollers"}} {
		spec.Inputs = append(spec.Inputs, loop.Input{Group: g.group, Resource: g.resource, Keys: ofController})
	}
	return spec
}

// ofPod maps a pod to the budgets that select it or did, where the change matters to them.
func ofPod(v *loop.View, c loop.Change) []events.Key {
	prev, next := loop.Pods.Of(v, c.Prev), loop.Pods.Of(v, c.Next)
	if prev != nil && next != nil && !differ(prev, next) {
		return nil
	}
	var out []events.Key
	for _, b := range loop.Budgets.List(v, c.Next.Key.Namespace) {
		s, err := metav1.LabelSelectorAsSelector(b.Spec.Selector)
		if err == nil && (prev != nil && s.Matches(labels.Set(prev.Labels)) || next != nil && s.Matches(labels.Set(next.Labels))) {
			out = append(out, loop.Budgets.KeyOf(b))
		}
	}
	return out
}

func differ(a, b *corev1.Pod) bool {
	return a.UID != b.UID || (a.DeletionTimestamp == nil) != (b.DeletionTimestamp == nil) || (replica.Ready(a) == nil) != (replica.Ready(b) == nil) ||
		!equality.Semantic.DeepEqual(a.Labels, b.Labels) || !equality.Semantic.DeepEqual(a.OwnerReferences, b.OwnerReferences)
}

// ofController maps a controller that has come, gone or been scaled to the namespace's budgets.
func ofController(v *loop.View, c loop.Change) []events.Key {
	if c.Prev.Exists() && c.Next.Exists() && replicasIn(c.Prev.Object) == replicasIn(c.Next.Object) {
		return nil
	}
	var out []events.Key
	for _, b := range loop.Budgets.List(v, c.Next.Key.Namespace) {
		out = append(out, loop.Budgets.KeyOf(b))
	}
	return out
}

// Decide decides about one PodDisruptionBudget.
func (Reconciler) Decide(v *loop.View, key events.Key, now time.Time) (d loop.Decision) {
	b := loop.Budgets.At(v, key)
	if b == nil {
		return d
	}
	next := b.DeepCopy()
	pods, err := selected(v, b)
	var expected, desired int32
	if err == nil {
		expected, desired, err = expectation(v, b, pods)
	}
	if err != nil {
		// Nothing may be disrupted while nobody can say how many pods there should be.
		next.Status.DisruptionsAllowed = 0
		condition(next, metav1.ConditionFalse, policyv1.SyncFailedReason, err.Error(), now)
		d.AgainIn(time.Minute) // a custom controller's scale is not among the inputs
	} else {
		disrupted, recheck := stillDisrupted(b, pods, now)
		healthy := healthyOf(pods, disrupted)
		allowed := healthy - desired
		if expected <= 0 || allowed <= 0 {
			allowed = 0
		}
		next.Status = policyv1.PodDisruptionBudgetStatus{ObservedGeneration: b.Generation, DisruptedPods: disrupted, DisruptionsAllowed: allowed,
			CurrentHealthy: healthy, DesiredHealthy: desired, ExpectedPods: expected, Conditions: next.Status.Conditions}
		if allowed > 0 {
			condition(next, metav1.ConditionTrue, policyv1.SufficientPodsReason, "", now)
		} else {
			condition(next, metav1.ConditionFalse, policyv1.InsufficientPodsReason, "", now)
		}
		if recheck > 0 {
			d.AgainIn(recheck)
		}
	}
	if !equality.Semantic.DeepEqual(b.Status, next.Status) {
		d.Do(loop.Budgets.UpdateStatus(next))
	}
	return d
}

func condition(b *policyv1.PodDisruptionBudget, status metav1.ConditionStatus, reason, message string, now time.Time) {
	c := metav1.Condition{Type: policyv1.DisruptionAllowedCondition, Status: status, Reason: reason, Message: message,
		ObservedGeneration: b.Status.ObservedGeneration, LastTransitionTime: metav1.NewTime(now.Truncate(time.Second))}
	if was := meta.FindStatusCondition(b.Status.Conditions, c.Type); was != nil && was.Status == status {
		c.LastTransitionTime = was.LastTransitionTime
	}
	meta.SetStatusCondition(&b.Status.Conditions, c)
}

// selected are the pods of a budget: an empty selector selects all of the namespace, none selects none.
func selected(v *loop.View, b *policyv1.PodDisruptionBudget) ([]*corev1.Pod, error) {
	s, err := metav1.LabelSelectorAsSelector(b.Spec.Selector)
	if err != nil {
		return nil, err
	}
	var out []*corev1.Pod
	for _, p := range loop.Pods.List(v, b.Namespace) {
		if s.Matches(labels.Set(p.Labels)) {
			out = append(out, p)
		}
	}
	return out, nil
}

// expectation is how many pods there should be, and how many of them healthy.
func expectation(v *loop.View, b *policyv1.PodDisruptionBudget, pods []*corev1.Pod) (expected, desired int32, err error) {
	switch most, least := b.Spec.MaxUnavailable, b.Spec.MinAvailable; {
	case most != nil:
		if expected, err = scaleOf(v, pods); err != nil {
			return 0, 0, err
		}
		n, err := intstr.GetScaledValueFromIntOrPercent(most, int(expected), true)
		return expected, max(0, expected-int32(n)), err
	case least != nil && least.Type == intstr.Int:
		return int32(len(pods)), least.IntVal, nil
	case least != nil:
		if expected, err = scaleOf(v, pods); err != nil {
			return 0, 0, err
		}
		n, err := intstr.GetScaledValueFromIntOrPercent(least, int(expected), true)
		return expected, int32(n), err
	}
	return 0, 0, nil
}

// stillDisrupted are the pods whose eviction was granted and that nobody has begun to delete, and for how
// long the first of them is waited for (0: there is none).
func stillDisrupted(b *policyv1.PodDisruptionBudget, pods []*corev1.Pod, now time.Time) (map[string]metav1.Time, time.Duration) {
	out := map[string]metav1.Time{}
	var recheck time.Duration
	for _, p := range pods {
		at, listed := b.Status.DisruptedPods[p.Name]
		if !listed || p.DeletionTimestamp != nil {
			continue
		}
		if left := at.Add(deletionTimeout).Sub(now); left > 0 {
			out[p.Name] = at
			if recheck == 0 || left < recheck {
				recheck = left
			}
		}
	}
	return out, recheck
}

func healthyOf(pods []*corev1.Pod, disrupted map[string]metav1.Time) int32 {
	var n int32
	for _, p := range pods {
		if _, evicted := disrupted[p.Name]; !evicted && p.DeletionTimestamp == nil && replica.Ready(p) != nil {
			n++
		}
	}
	return n
}
