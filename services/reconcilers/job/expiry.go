package job

import (
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/services/loop"
)

// Expiry decides when finished Jobs are deleted.
type Expiry struct{}

// Spec declares what the reconciler reads and writes.
func (Expiry) Spec() loop.Spec {
	return loop.Spec{
		Name:     "expiry",
		Identity: loop.ServiceAccount("ttl-after-finished-controller"),
		Inputs:   []loop.Input{{Group: "batch", Resource: "jobs", Keys: loop.Itself}},
		Outputs:  []loop.Output{{Group: "batch", Resource: "jobs", Shared: true}},
	}
}

// Decide decides about one Job.
func (Expiry) Decide(v *loop.View, key events.Key, now time.Time) (d loop.Decision) {
	j := loop.Jobs.At(v, key)
	if j == nil || j.DeletionTimestamp != nil || j.Spec.TTLSecondsAfterFinished == nil {
		return d
	}
	for _, c := range j.Status.Conditions {
		if c.Status != corev1.ConditionTrue || (c.Type != batchv1.JobComplete && c.Type != batchv1.JobFailed) {
			continue
		}
		if left := c.LastTransitionTime.Add(time.Duration(*j.Spec.TTLSecondsAfterFinished) * time.Second).Sub(now); left > 0 {
			d.AgainIn(left)
			continue
		}
		e := loop.Jobs.Delete(j)
		e.Propagation = metav1.DeletePropagationForeground
		d.Do(e)
		return d
	}
	return d
}
