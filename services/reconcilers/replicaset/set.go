package replicaset

import (
	"errors"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/orlog-io/orlog/services/loop"
	"github.com/orlog-io/orlog/services/reconcilers/claim"
	"github.com/orlog-io/orlog/services/reconcilers/replica"
)

// Set is what keeps a number of equal pods: a ReplicaSet, or another kind that is written as one.
type Set struct {
	*appsv1.ReplicaSet
	// Kind is what owns the pods.
	Kind schema.GroupVersionKind
	// Report makes the effect that writes a status; true: the object says so already.
	Report func(appsv1.ReplicaSetStatus) (loop.Effect, bool)

	// related are the pods to keep apart from when choosing what to delete; nil: the set's own.
	related func(*loop.View, *appsv1.ReplicaSet) []*corev1.Pod
}

// Decide decides about one set.
func (s Set) Decide(v *loop.View, now time.Time) (d loop.Decision) {
	selector, err := metav1.LabelSelectorAsSelector(s.Spec.Selector)
	if err != nil {
		return d // the API admits no such selector; an object from elsewhere can only be left alone
	}
	ref := *metav1.NewControllerRef(s, s.Kind)
	pods, claims := claim.Of(v, loop.Pods, s.ReplicaSet, ref, selector, replica.Active)
	d.Do(claims...)
	var active, ending []*corev1.Pod
	for _, p := range pods {
		switch {
		case replica.Active(p):
			active = append(active, p)
		case !replica.Finished(p):
			ending = append(ending, p)
		}
	}
	var work []loop.Effect
	if s.DeletionTimestamp == nil {
		work = s.manage(v, ref, active, now)
	}
	if len(claims) > 0 {
		d.Then(work...) // it counts on the claims
	} else {
		d.Do(work...)
	}
	status, wait := statusOf(s.ReplicaSet, active, ending, now)
	s.report(&d, status, work, now)
	if wait > 0 {
		d.AgainIn(wait)
	}
	return d
}

// report writes the status after the work is done, or with the failure where it is refused.
func (s Set) report(d *loop.Decision, status appsv1.ReplicaSetStatus, work []loop.Effect, now time.Time) {
	better := status
	better.Conditions = slices.DeleteFunc(slices.Clone(status.Conditions), failure)
	done, same := s.Report(better)
	switch {
	case same:
	case len(work) == 0:
		d.Do(done)
	default:
		d.Then(done)
	}
	if len(work) == 0 {
		return
	}
	reason := "FailedCreate"
	if work[0].Verb == loop.Delete {
		reason = "FailedDelete"
	}
	d.Refused = func(err error) []loop.Effect {
		worse := status
		if len(better.Conditions) == len(status.Conditions) { // it has not been said yet
			worse.Conditions = append(slices.Clone(better.Conditions), appsv1.ReplicaSetCondition{Type: appsv1.ReplicaSetReplicaFailure, Status: corev1.ConditionTrue,
				Reason: reason, Message: wordsOf(err), LastTransitionTime: metav1.NewTime(now)})
		}
		if e, same := s.Report(worse); !same {
			return []loop.Effect{e}
		}
		return nil
	}
}

func failure(c appsv1.ReplicaSetCondition) bool { return c.Type == appsv1.ReplicaSetReplicaFailure }

// wordsOf are the gateway's own words about a refusal.
func wordsOf(err error) string {
	var said apierrors.APIStatus
	if errors.As(err, &said) {
		return said.Status().Message
	}
	return err.Error()
}

// manage creates what is missing or deletes what is too much.
func (s Set) manage(v *loop.View, ref metav1.OwnerReference, active []*corev1.Pod, now time.Time) []loop.Effect {
	want := int(replica.Deref(s.Spec.Replicas, 1))
	var effects []loop.Effect
	switch missing := want - len(active); {
	case missing > 0:
		names := replica.Names(v, loop.Pods, s.Namespace, s.Name+"-", string(s.UID))
		for range min(missing, burst) {
			p := replica.NewPod(&s.Spec.Template, s.Namespace, names.Next(), s.Name+"-", ref)
			effects = append(effects, loop.Pods.Create(p))
		}
	case missing < 0:
		near := active
		if s.related != nil {
			near = s.related(v, s.ReplicaSet)
		}
		for _, p := range leastMissed(active, near, s.Spec.MinReadySeconds, now)[:min(-missing, burst)] {
			effects = append(effects, loop.Pods.Delete(p))
		}
	}
	return effects
}
