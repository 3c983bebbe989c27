package job

import (
	"slices"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/orlog-io/orlog/services/loop"
	"github.com/orlog-io/orlog/services/reconcilers/replica"
)

func has(s *batchv1.JobStatus, t batchv1.JobConditionType, status corev1.ConditionStatus) bool {
	return slices.ContainsFunc(s.Conditions, func(c batchv1.JobCondition) bool { return c.Type == t && c.Status == status })
}

// finished says whether the Job has its last word.
func finished(s *batchv1.JobStatus) bool {
	return has(s, batchv1.JobComplete, corev1.ConditionTrue) || has(s, batchv1.JobFailed, corev1.ConditionTrue)
}

// condition sets a condition; false where it was so already.
func (r *round) condition(t batchv1.JobConditionType, status corev1.ConditionStatus, reason, message string) bool {
	if has(&r.status, t, status) {
		return false
	}
	now := metav1.NewTime(r.now)
	r.status.Conditions = append(slices.DeleteFunc(r.status.Conditions, func(c batchv1.JobCondition) bool { return c.Type == t }),
		batchv1.JobCondition{Type: t, Status: status, Reason: reason, Message: message, LastProbeTime: now, LastTransitionTime: now})
	return true
}

// verdict says whether the Job is to end, and why: JobComplete, JobFailed, or "" while it goes on. What was
// decided once (as an interim condition) stands.
func (r *round) verdict() (batchv1.JobConditionType, string, string) {
	for _, c := range r.status.Conditions {
		if c.Status != corev1.ConditionTrue {
			continue
		}
		switch c.Type {
		case batchv1.JobFailureTarget:
			return batchv1.JobFailed, c.Reason, c.Message
		case batchv1.JobSuccessCriteriaMet:
			return batchv1.JobComplete, c.Reason, c.Message
		}
	}
	if reason, message := r.failure(); reason != "" {
		return batchv1.JobFailed, reason, message
	}
	if r.policyMet() {
		return batchv1.JobComplete, batchv1.JobReasonSuccessPolicy, "Matched rules at index 0"
	}
	if r.allDone() {
		return batchv1.JobComplete, batchv1.JobReasonCompletionsReached, "Reached expected number of succeeded pods"
	}
	return "", "", ""
}

func (r *round) failure() (reason, message string) {
	u := r.status.UncountedTerminatedPods
	fails := int(r.status.Failed) + len(u.Failed)
	switch {
	case r.failJob != "":
		return batchv1.JobReasonPodFailurePolicy, r.failJob
	case fails > int(replica.Deref(r.job.Spec.BackoffLimit, 6)) || r.restartedTooOften():
		return batchv1.JobReasonBackoffLimitExceeded, "Job has reached the specified backoff limit"
	case r.overdue():
		return batchv1.JobReasonDeadlineExceeded, "Job was active longer than specified deadline"
	case r.job.Spec.MaxFailedIndexes != nil && len(r.failed) > int(*r.job.Spec.MaxFailedIndexes):
		return batchv1.JobReasonMaxFailedIndexesExceeded, "Job has exceeded the specified maximal number of failed indexes"
	case r.indexed() && len(r.failed) > 0 && len(r.failed)+len(r.completed) >= int(*r.job.Spec.Completions):
		return batchv1.JobReasonFailedIndexes, "Job has failed indexes"
	}
	return "", ""
}

// restartedTooOften: with restartPolicy OnFailure it is restarts in place that count.
func (r *round) restartedTooOften() bool {
	if r.job.Spec.Template.Spec.RestartPolicy != corev1.RestartPolicyOnFailure {
		return false
	}
	var n int32
	for _, p := range r.active {
		if p.Status.Phase != corev1.PodRunning && p.Status.Phase != corev1.PodPending {
			continue
		}
		for _, c := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
			n += c.RestartCount
		}
	}
	limit := replica.Deref(r.job.Spec.BackoffLimit, 6)
	if limit == 0 {
		return n > 0
	}
	return n >= limit
}

func (r *round) overdue() bool {
	if r.job.Spec.ActiveDeadlineSeconds == nil || r.status.StartTime == nil || suspended(r.job) {
		return false
	}
	left := r.status.StartTime.Add(time.Duration(*r.job.Spec.ActiveDeadlineSeconds) * time.Second).Sub(r.now)
	if left > 0 {
		r.out.AgainIn(left)
	}
	return left <= 0
}

// succeededSoFar counts pods, or indexes of an indexed Job.
func (r *round) succeededSoFar() int {
	if r.indexed() {
		return len(r.completed)
	}
	return int(r.status.Succeeded) + len(r.status.UncountedTerminatedPods.Succeeded)
}

func (r *round) allDone() bool {
	if r.job.Spec.Completions == nil {
		return r.succeededSoFar() > 0 && len(r.active) == 0
	}
	return r.succeededSoFar() >= int(*r.job.Spec.Completions)
}

// policyMet says whether a rule of the success policy holds.
func (r *round) policyMet() bool {
	if r.job.Spec.SuccessPolicy == nil || !r.indexed() {
		return false
	}
	for _, rule := range r.job.Spec.SuccessPolicy.Rules {
		have, want := len(r.completed), 0
		if rule.SucceededIndexes != nil {
			of := parseIndexes(*rule.SucceededIndexes)
			have, want = 0, len(of)
			for _, i := range of {
				if r.completed.has(i) {
					have++
				}
			}
		}
		if rule.SucceededCount != nil {
			want = int(*rule.SucceededCount)
		}
		if want > 0 && have >= want {
			return true
		}
	}
	return false
}

// finish ends the pods that still run, and speaks the last word when none is left and all are counted.
func (r *round) finish(done batchv1.JobConditionType, reason, message string) {
	interim := batchv1.JobSuccessCriteriaMet
	if done == batchv1.JobFailed {
		interim = batchv1.JobFailureTarget
	}
	r.condition(interim, corev1.ConditionTrue, reason, message)
	var effects []loop.Effect
	for _, p := range r.active {
		effects = append(effects, loop.Pods.Delete(p))
	}
	r.out.Do(effects...)
	r.terminating = append(r.terminating, r.active...)
	r.active = nil
	u := r.status.UncountedTerminatedPods
	if len(r.terminating) > 0 || len(u.Succeeded)+len(u.Failed) > 0 {
		return
	}
	r.condition(done, corev1.ConditionTrue, reason, message)
	if done == batchv1.JobComplete {
		r.status.CompletionTime = &metav1.Time{Time: r.now}
	}
}
