package deployment

import (
	"fmt"
	"math"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Reasons of conditions, as kubectl rollout status and dashboards know them.
const (
	updatedReplicaSet  = "ReplicaSetUpdated"
	newReplicaSet      = "NewReplicaSetCreated"
	foundNewReplicaSet = "FoundNewReplicaSet"
	newAvailable       = "NewReplicaSetAvailable"
	timedOut           = "ProgressDeadlineExceeded"
	paused             = "DeploymentPaused"
	resumed            = "DeploymentResumed"
	available          = "MinimumReplicasAvailable"
	notAvailable       = "MinimumReplicasUnavailable"
)

func hasDeadline(d *appsv1.Deployment) bool {
	return d.Spec.ProgressDeadlineSeconds != nil && *d.Spec.ProgressDeadlineSeconds != math.MaxInt32
}

func condition(s *appsv1.DeploymentStatus, t appsv1.DeploymentConditionType) *appsv1.DeploymentCondition {
	for i := range s.Conditions {
		if s.Conditions[i].Type == t {
			return &s.Conditions[i]
		}
	}
	return nil
}

// setCondition replaces a condition unless status and reason are as they were; the transition time moves
// with the status only.
func (r *rollout) setCondition(t appsv1.DeploymentConditionType, status corev1.ConditionStatus, reason, message string) {
	was := condition(&r.d.Status, t)
	if was != nil && was.Status == status && was.Reason == reason {
		return
	}
	r.replaceCondition(t, status, reason, message)
}

func (r *rollout) replaceCondition(t appsv1.DeploymentConditionType, status corev1.ConditionStatus, reason, message string) {
	now := metav1.NewTime(r.now)
	next := appsv1.DeploymentCondition{Type: t, Status: status, Reason: reason, Message: message, LastUpdateTime: now, LastTransitionTime: now}
	if was := condition(&r.d.Status, t); was != nil && was.Status == status {
		next.LastTransitionTime = was.LastTransitionTime
	}
	r.dropCondition(t)
	r.d.Status.Conditions = append(r.d.Status.Conditions, next)
}

func (r *rollout) dropCondition(t appsv1.DeploymentConditionType) {
	r.d.Status.Conditions = slices.DeleteFunc(r.d.Status.Conditions, func(c appsv1.DeploymentCondition) bool { return c.Type == t })
}

// pauseCondition notes that progress is not to be judged while paused, and starts afresh when resumed.
func (r *rollout) pauseCondition() {
	c := condition(&r.d.Status, appsv1.DeploymentProgressing)
	if !hasDeadline(r.d) || (c != nil && c.Reason == timedOut) {
		return
	}
	isPaused := c != nil && c.Reason == paused
	switch {
	case r.d.Spec.Paused && !isPaused:
		r.setCondition(appsv1.DeploymentProgressing, corev1.ConditionUnknown, paused, "Deployment is paused")
	case !r.d.Spec.Paused && isPaused:
		r.setCondition(appsv1.DeploymentProgressing, corev1.ConditionUnknown, resumed, "Deployment is resumed")
	}
}

// complete: all replicas are new, available, and counted for this generation.
func (r *rollout) complete(s *appsv1.DeploymentStatus) bool {
	want := *r.d.Spec.Replicas
	return s.UpdatedReplicas == want && s.Replicas == want && s.AvailableReplicas == want && s.ObservedGeneration >= r.d.Generation
}

// count fills in the numbers and the Available condition.
func (r *rollout) count() {
	s := &r.d.Status
	var replicas, ready, avail, ending int32
	endingKnown := len(r.all) > 0
	for _, rs := range r.all {
		replicas += rs.Status.Replicas
		ready += rs.Status.ReadyReplicas
		avail += rs.Status.AvailableReplicas
		if rs.Status.TerminatingReplicas != nil {
			ending += *rs.Status.TerminatingReplicas
		}
	}
	s.ObservedGeneration = r.d.Generation
	s.Replicas, s.ReadyReplicas, s.AvailableReplicas = replicas, ready, avail
	s.UpdatedReplicas = 0
	if r.current != nil {
		s.UpdatedReplicas = r.current.Status.Replicas
	}
	planned := total(r.all)
	if r.create != nil {
		planned += *r.create.Spec.Replicas
	}
	s.UnavailableReplicas = max(0, planned-avail)
	s.TerminatingReplicas = nil
	if endingKnown {
		s.TerminatingReplicas = &ending
	}
	if avail >= *r.d.Spec.Replicas-r.unavailable {
		r.setCondition(appsv1.DeploymentAvailable, corev1.ConditionTrue, available, "Deployment has minimum availability.")
	} else {
		r.setCondition(appsv1.DeploymentAvailable, corev1.ConditionFalse, notAvailable, "Deployment does not have minimum availability.")
	}
}

// progress counts and judges whether the rollout moves on.
func (r *rollout) progress() {
	before := r.seen.Status
	r.count()
	if !hasDeadline(r.d) {
		r.dropCondition(appsv1.DeploymentProgressing)
		return
	}
	s := &r.d.Status
	was := condition(s, appsv1.DeploymentProgressing)
	if s.Replicas == s.UpdatedReplicas && was != nil && was.Reason == newAvailable {
		return // no rollout under way
	}
	subject := fmt.Sprintf("Deployment %q", r.d.Name)
	if r.current != nil {
		subject = fmt.Sprintf("ReplicaSet %q", r.current.Name)
	}
	switch {
	case r.complete(s):
		r.setCondition(appsv1.DeploymentProgressing, corev1.ConditionTrue, newAvailable, subject+" has successfully progressed.")
		return
	case moved(&before, s):
		r.replaceCondition(appsv1.DeploymentProgressing, corev1.ConditionTrue, updatedReplicaSet, subject+" is progressing.")
	case was != nil && was.Reason == timedOut:
		return
	case was != nil && was.Reason != newAvailable && r.deadline(was) <= 0:
		r.setCondition(appsv1.DeploymentProgressing, corev1.ConditionFalse, timedOut, subject+" has timed out progressing.")
		return
	}
	if c := condition(s, appsv1.DeploymentProgressing); c != nil && c.Reason != newAvailable {
		r.again = max(r.deadline(c), 0) + time.Second
	}
}

// deadline is how long the rollout may still go without progress.
func (r *rollout) deadline(c *appsv1.DeploymentCondition) time.Duration {
	return c.LastUpdateTime.Add(time.Duration(*r.d.Spec.ProgressDeadlineSeconds) * time.Second).Sub(r.now)
}

func moved(was, is *appsv1.DeploymentStatus) bool {
	return is.UpdatedReplicas > was.UpdatedReplicas ||
		is.Replicas-is.UpdatedReplicas < was.Replicas-was.UpdatedReplicas ||
		is.ReadyReplicas > was.ReadyReplicas || is.AvailableReplicas > was.AvailableReplicas
}
