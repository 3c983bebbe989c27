package cronjob

import (
	"fmt"
	"maps"
	"slices"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/services/loop"
	"github.com/orlog-io/orlog/services/reconcilers/replica"
)

// Reconciler decides about CronJobs.
type Reconciler struct{}

// Spec declares what the reconciler reads and writes.
func (Reconciler) Spec() loop.Spec {
	return loop.Spec{
		Name:     "cronjob",
		Identity: loop.ServiceAccount("cronjob-controller"),
		Inputs: []loop.Input{
			{Group: "batch", Resource: "cronjobs", Keys: loop.Itself},
			{Group: "batch", Resource: "jobs", Keys: func(v *loop.View, c loop.Change) []events.Key {
				return replica.Controllers(loop.CronJobs, loop.Jobs.Of(v, c.Prev), loop.Jobs.Of(v, c.Next))
			}},
		},
		Outputs: []loop.Output{
			{Group: "batch", Resource: "cronjobs", Subresource: "status"},
			{Group: "batch", Resource: "jobs", Shared: true},
		},
	}
}

// Decide decides about one CronJob.
func (Reconciler) Decide(v *loop.View, key events.Key, now time.Time) (d loop.Decision) {
	c := loop.CronJobs.At(v, key)
	if c == nil {
		return d
	}
	jobs := jobsOf(v, c)
	next := c.DeepCopy()
	next.Status.Active = active(c, jobs)
	next.Status.LastSuccessfulTime = lastSuccess(c, jobs)
	d.Do(forget(c, jobs)...)
	if c.DeletionTimestamp == nil && !replica.Deref(c.Spec.Suspend, false) {
		if clock, err := clockOf(c); err == nil { // else it starts nothing until it is changed
			start(v, &d, next, jobs, clock, now)
		}
	}
	if !equality.Semantic.DeepEqual(c.Status, next.Status) {
		d.Then(loop.CronJobs.UpdateStatus(next))
	}
	return d
}

// start starts the Job that is due, if any, and asks to be woken for the next.
func start(v *loop.View, d *loop.Decision, c *batchv1.CronJob, jobs []*batchv1.Job, clock clock, now time.Time) {
	if next := clock.after(now); !next.IsZero() {
		d.AgainIn(next.Add(grain).Sub(now))
	}
	since := c.CreationTimestamp.Time
	if last := c.Status.LastScheduleTime; last != nil {
		since = last.Time
	}
	if s := c.Spec.StartingDeadlineSeconds; s != nil {
		if deadline := now.Add(-time.Duration(*s) * time.Second); deadline.After(since) {
			since = deadline
		}
	}
	at := clock.due(since, now)
	if at.IsZero() || c.Status.LastScheduleTime != nil && c.Status.LastScheduleTime.Time.Equal(at) {
		return
	}
	name := fmt.Sprintf("%s-%d", c.Name, at.Unix()/60)
	if other := loop.Jobs.Get(v, c.Namespace, name); other != nil {
		if metav1.IsControlledBy(other, c) { // it was started, and only saying so was missed
			c.Status.LastScheduleTime = &metav1.Time{Time: at}
		}
		return
	}
	if len(c.Status.Active) > 0 {
		switch c.Spec.ConcurrencyPolicy {
		case batchv1.ForbidConcurrent:
			return
		case batchv1.ReplaceConcurrent:
			d.Do(end(c, jobs)...)
		}
	}
	d.Then(loop.Jobs.Create(newJob(c, name, at, clock.zone)))
	c.Status.LastScheduleTime = &metav1.Time{Time: at}
}

// end deletes the active Jobs.
func end(c *batchv1.CronJob, jobs []*batchv1.Job) []loop.Effect {
	var out []loop.Effect
	for _, ref := range c.Status.Active {
		for _, j := range jobs {
			if j.UID == ref.UID && j.DeletionTimestamp == nil {
				out = append(out, remove(j))
			}
		}
	}
	c.Status.Active = nil
	return out
}

func remove(j *batchv1.Job) loop.Effect {
	e := loop.Jobs.Delete(j)
	e.Propagation = metav1.DeletePropagationBackground
	return e
}

func newJob(c *batchv1.CronJob, name string, at time.Time, zone *time.Location) *batchv1.Job {
	t := c.Spec.JobTemplate
	annotations := maps.Clone(t.Annotations)
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[batchv1.CronJobScheduledTimestampAnnotation] = at.In(zone).Format(time.RFC3339)
	return &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{Namespace: c.Namespace, Name: name, Labels: maps.Clone(t.Labels), Annotations: annotations,
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(c, loop.CronJobs.GVK())}},
		Spec: *t.Spec.DeepCopy(),
	}
}

func jobsOf(v *loop.View, c *batchv1.CronJob) []*batchv1.Job {
	return slices.DeleteFunc(loop.Jobs.OwnedBy(v, string(c.UID)), func(j *batchv1.Job) bool { return !metav1.IsControlledBy(j, c) })
}

// active refers to the Jobs that were started here and run, oldest first. Those that a person started from the
// same template have no scheduled time, and do not stand in the way of others.
func active(c *batchv1.CronJob, jobs []*batchv1.Job) []corev1.ObjectReference {
	var out []corev1.ObjectReference
	var fresh []corev1.ObjectReference
	for _, j := range jobs {
		_, scheduled := j.Annotations[batchv1.CronJobScheduledTimestampAnnotation]
		listed := slices.ContainsFunc(c.Status.Active, func(r corev1.ObjectReference) bool { return r.UID == j.UID })
		if verdict(j) == "" && scheduled && !listed && j.DeletionTimestamp == nil {
			fresh = append(fresh, corev1.ObjectReference{APIVersion: loop.Jobs.GroupVersion().String(), Kind: loop.Jobs.Kind,
				Namespace: j.Namespace, Name: j.Name, UID: j.UID, ResourceVersion: j.ResourceVersion})
		}
	}
	for _, r := range c.Status.Active {
		if slices.ContainsFunc(jobs, func(j *batchv1.Job) bool { return j.UID == r.UID && verdict(j) == "" }) {
			out = append(out, r)
		}
	}
	return append(out, fresh...)
}

// verdict is how a Job has ended, "" where it has not.
func verdict(j *batchv1.Job) batchv1.JobConditionType {
	for _, c := range j.Status.Conditions {
		if c.Status == corev1.ConditionTrue && (c.Type == batchv1.JobComplete || c.Type == batchv1.JobFailed) {
			return c.Type
		}
	}
	return ""
}

func lastSuccess(c *batchv1.CronJob, jobs []*batchv1.Job) *metav1.Time {
	last := c.Status.LastSuccessfulTime
	for _, j := range jobs {
		if at := j.Status.CompletionTime; verdict(j) == batchv1.JobComplete && at != nil && (last == nil || last.Before(at)) {
			last = at
		}
	}
	return last
}
