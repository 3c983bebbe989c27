package job

import (
	"encoding/json"
	"slices"
	"strconv"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/orlog-io/orlog/services/loop"
	"github.com/orlog-io/orlog/services/reconcilers/replica"
)

// listed is how many pods the status lists as uncounted at most.
const listed = 500

// indexFailures is the annotation of a pod that counts the failures of its index before it.
const (
	indexFailures = batchv1.JobIndexFailureCountAnnotation
	indexIgnored  = batchv1.JobIndexIgnoredFailureCountAnnotation
)

// track moves pods whose finalizer is gone into the totals, and lists those that have finished since.
func (r *round) track() {
	pods := map[types.UID]*corev1.Pod{}
	for _, p := range r.pods {
		pods[p.UID] = p
	}
	list := &batchv1.UncountedTerminatedPods{}
	if u := r.status.UncountedTerminatedPods; u != nil {
		list.Succeeded = r.settle(u.Succeeded, pods, &r.status.Succeeded)
		list.Failed = r.settle(u.Failed, pods, &r.status.Failed)
	}
	for _, p := range r.pods {
		if len(list.Succeeded)+len(list.Failed) >= listed || !tracked(p) || slices.Contains(list.Succeeded, p.UID) || slices.Contains(list.Failed, p.UID) {
			continue
		}
		switch {
		case p.Status.Phase == corev1.PodSucceeded:
			r.succeeded(p, list)
		case r.hasFailed(p):
			r.failedPod(p, list)
		default:
			continue
		}
		r.release = append(r.release, untrack(p))
	}
	r.status.UncountedTerminatedPods = list
}

// settle counts the listed pods that have lost their finalizer, and goes on with the others.
func (r *round) settle(uids []types.UID, pods map[types.UID]*corev1.Pod, total *int32) []types.UID {
	var kept []types.UID
	for _, uid := range uids {
		if p := pods[uid]; p != nil && tracked(p) {
			kept = append(kept, uid)
			r.release = append(r.release, untrack(p))
			continue
		}
		*total++
	}
	return kept
}

func (r *round) succeeded(p *corev1.Pod, list *batchv1.UncountedTerminatedPods) {
	if !r.indexed() {
		list.Succeeded = append(list.Succeeded, p.UID)
		return
	}
	// An index counts once, by the set of completed ones, however many pods completed it.
	if i := indexOf(p); i >= 0 && i < int(*r.job.Spec.Completions) && !r.completed.has(i) && !r.failed.has(i) {
		r.completed.add(i)
		list.Succeeded = append(list.Succeeded, p.UID)
	}
}

func (r *round) failedPod(p *corev1.Pod, list *batchv1.UncountedTerminatedPods) {
	action := r.policy(p)
	if action == batchv1.PodFailurePolicyActionIgnore {
		return
	}
	list.Failed = append(list.Failed, p.UID)
	i := indexOf(p)
	if limit := r.job.Spec.BackoffLimitPerIndex; r.indexed() && limit != nil && i >= 0 && !r.completed.has(i) &&
		(action == batchv1.PodFailurePolicyActionFailIndex || failures(p)+1 > int(*limit)) {
		r.failed.add(i)
	}
}

// failures is how often the pod's index failed before it.
func failures(p *corev1.Pod) int {
	n, err := strconv.Atoi(p.Annotations[indexFailures])
	if err != nil {
		return 0 // the first pod of its index
	}
	return n
}

// hasFailed says whether a pod counts as failed: it says so, or it is being deleted by somebody else, unless
// the Job wants to wait for the end.
func (r *round) hasFailed(p *corev1.Pod) bool {
	if p.Status.Phase == corev1.PodFailed {
		return true
	}
	return p.DeletionTimestamp != nil && p.Status.Phase != corev1.PodSucceeded && !r.waitsForEnd()
}

// waitsForEnd: terminating pods are replaced, and judged, only when they have ended.
func (r *round) waitsForEnd() bool {
	return r.job.Spec.PodFailurePolicy != nil || replica.Deref(r.job.Spec.PodReplacementPolicy, batchv1.TerminatingOrFailed) == batchv1.Failed
}

func tracked(p *corev1.Pod) bool { return slices.Contains(p.Finalizers, batchv1.JobTrackingFinalizer) }

// untrack is the patch that takes the tracking finalizer off a pod.
func untrack(p *corev1.Pod) loop.Effect {
	b, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": p.UID, "$deleteFromPrimitiveList/finalizers": []string{batchv1.JobTrackingFinalizer}}})
	if err != nil {
		panic("job: marshalling a finalizer: " + err.Error()) // strings
	}
	return loop.Pods.Patch(p, types.StrategicMergePatchType, b)
}
