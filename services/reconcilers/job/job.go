package job

import (
	"cmp"
	"slices"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/services/loop"
	"github.com/orlog-io/orlog/services/reconcilers/claim"
	"github.com/orlog-io/orlog/services/reconcilers/replica"
)

// Reconciler decides about Jobs.
type Reconciler struct{}

// Spec declares what the reconciler reads and writes.
func (Reconciler) Spec() loop.Spec {
	return loop.Spec{
		Name:     "job",
		Identity: loop.ServiceAccount("job-controller"),
		Inputs: []loop.Input{
			{Group: "batch", Resource: "jobs", Keys: loop.Itself},
			{Resource: "pods", Keys: ofPod},
		},
		Outputs: []loop.Output{
			{Group: "batch", Resource: "jobs", Subresource: "status"},
			{Resource: "pods", Shared: true},
		},
		Workers: 4,
	}
}

func ofPod(v *loop.View, c loop.Change) []events.Key {
	prev, next := loop.Pods.Of(v, c.Prev), loop.Pods.Of(v, c.Next)
	out := replica.Controllers(loop.Jobs, prev, next)
	if next != nil && metav1.GetControllerOfNoCopy(next) == nil && next.DeletionTimestamp == nil {
		for _, j := range loop.Jobs.List(v, next.Namespace) {
			if replica.Selects(j.Spec.Selector, next) {
				out = append(out, loop.Jobs.KeyOf(j))
			}
		}
	}
	return out
}

// round is one decision in the making.
type round struct {
	v    *loop.View
	now  time.Time
	job  *batchv1.Job
	ref  metav1.OwnerReference
	pods []*corev1.Pod
	// active pods run or will; terminating ones are being deleted and have not ended yet.
	active, terminating []*corev1.Pod
	status              batchv1.JobStatus
	completed, failed   indexes // of an indexed Job
	// failJob is set by a pod failure policy.
	failJob string
	release []loop.Effect
	out     loop.Decision
}

func (r *round) indexed() bool {
	return replica.Deref(r.job.Spec.CompletionMode, batchv1.NonIndexedCompletion) == batchv1.IndexedCompletion
}

// Decide decides about one Job.
func (Reconciler) Decide(v *loop.View, key events.Key, now time.Time) loop.Decision {
	j := loop.Jobs.At(v, key)
	if j == nil || (j.Spec.ManagedBy != nil && *j.Spec.ManagedBy != batchv1.JobControllerName) {
		return loop.Decision{}
	}
	selector, err := metav1.LabelSelectorAsSelector(j.Spec.Selector)
	if err != nil || selector.Empty() {
		return loop.Decision{} // the API admits neither
	}
	r := &round{v: v, now: now, job: j, ref: *metav1.NewControllerRef(j, loop.Jobs.GVK()), status: *j.Status.DeepCopy()}
	var claims []loop.Effect
	r.pods, claims = claim.Of(v, loop.Pods, j, r.ref, selector, func(p *corev1.Pod) bool { return slices.Contains(p.Finalizers, batchv1.JobTrackingFinalizer) })
	r.out.Do(claims...)
	if finished(&j.Status) || j.DeletionTimestamp != nil {
		r.letGo()
		return r.out
	}
	r.completed, r.failed = parseIndexes(r.status.CompletedIndexes), parseIndexes(replica.Deref(r.status.FailedIndexes, ""))
	r.track()
	r.classify()
	r.suspend()
	if done, reason, message := r.verdict(); done != "" {
		r.finish(done, reason, message)
	} else if !suspended(j) {
		r.manage()
	}
	r.write()
	return r.out
}

// classify sorts the pods that have not finished.
func (r *round) classify() {
	slices.SortFunc(r.pods, func(a, b *corev1.Pod) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
	for _, p := range r.pods {
		switch {
		case replica.Finished(p):
		case p.DeletionTimestamp != nil:
			r.terminating = append(r.terminating, p)
		default:
			r.active = append(r.active, p)
		}
	}
}

// suspend starts and stops the Job's clock.
func (r *round) suspend() {
	switch {
	case suspended(r.job):
		r.stop(r.active)
		r.active = nil
		if r.condition(batchv1.JobSuspended, corev1.ConditionTrue, "JobSuspended", "Job suspended") {
			r.status.StartTime = nil
		}
	case has(&r.status, batchv1.JobSuspended, corev1.ConditionTrue):
		r.condition(batchv1.JobSuspended, corev1.ConditionFalse, "JobResumed", "Job resumed")
		r.status.StartTime = &metav1.Time{Time: r.now}
	case r.status.StartTime == nil:
		r.status.StartTime = &metav1.Time{Time: r.now}
	}
}

func suspended(j *batchv1.Job) bool { return j.Spec.Suspend != nil && *j.Spec.Suspend }

// letGo takes the finalizer off the pods of a Job that counts no more.
func (r *round) letGo() {
	var effects []loop.Effect
	for _, p := range r.pods {
		if slices.Contains(p.Finalizers, batchv1.JobTrackingFinalizer) {
			effects = append(effects, untrack(p))
		}
	}
	r.out.Do(effects...)
}

// write reports the status, and only when it is written takes the finalizers off the pods it lists.
func (r *round) write() {
	ready, terminating := int32(0), int32(len(r.terminating))
	for _, p := range r.active {
		if replica.Ready(p) != nil {
			ready++
		}
	}
	r.status.Active, r.status.Ready, r.status.Terminating = int32(len(r.active)), &ready, &terminating
	if r.indexed() {
		r.status.CompletedIndexes = r.completed.String()
		r.status.Succeeded = int32(len(r.completed))
		if r.job.Spec.BackoffLimitPerIndex != nil {
			r.status.FailedIndexes = new(r.failed.String())
		}
	}
	if !equality.Semantic.DeepEqual(r.job.Status, r.status) {
		next := r.job.DeepCopy()
		next.Status = r.status
		r.out.Do(loop.Jobs.UpdateStatus(next))
	}
	r.out.Then(r.release...)
}
