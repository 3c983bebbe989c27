package job

import (
	"slices"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/services/loop"
	"github.com/orlog-io/orlog/services/reconcilers/replica"
)

// Orphans decides about pods that a Job tracked which is gone, or which has let them go: nobody will count them, so
// nothing may keep them.
type Orphans struct{}

// Spec declares what the reconciler reads and writes.
func (Orphans) Spec() loop.Spec {
	return loop.Spec{
		Name:     "job-orphans",
		Identity: loop.ServiceAccount("job-controller"),
		Inputs: []loop.Input{
			{Resource: "pods", Keys: func(v *loop.View, c loop.Change) []events.Key {
				if p := loop.Pods.Of(v, c.Next); p == nil || !tracked(p) || !orphaned(v, p) {
					return nil
				}
				return []events.Key{c.Next.Key}
			}},
			{Group: "batch", Resource: "jobs", Keys: ofLostJob},
		},
		Outputs: []loop.Output{{Resource: "pods", Shared: true}},
	}
}

// ofLostJob makes the pods of a Job that is gone dirty.
func ofLostJob(v *loop.View, c loop.Change) []events.Key {
	if !c.Gone() {
		return nil
	}
	var out []events.Key
	for _, p := range loop.Pods.OwnedBy(v, c.Prev.UID) {
		if tracked(p) {
			out = append(out, loop.Pods.KeyOf(p))
		}
	}
	return out
}

// orphaned says whether no Job has the pod, and none is about to adopt it.
func orphaned(v *loop.View, p *corev1.Pod) bool {
	if ref := metav1.GetControllerOfNoCopy(p); ref != nil {
		if ref.Kind != loop.Jobs.Kind || ref.APIVersion != loop.Jobs.GroupVersion().String() {
			return false
		}
		j := loop.Jobs.Get(v, p.Namespace, ref.Name)
		return j == nil || j.UID != ref.UID
	}
	return p.DeletionTimestamp != nil || !slices.ContainsFunc(loop.Jobs.List(v, p.Namespace), func(j *batchv1.Job) bool {
		return j.DeletionTimestamp == nil && replica.Selects(j.Spec.Selector, p)
	})
}

// Decide decides about one pod.
func (Orphans) Decide(v *loop.View, key events.Key, _ time.Time) (d loop.Decision) {
	if p := loop.Pods.At(v, key); p != nil && tracked(p) && orphaned(v, p) {
		d.Do(untrack(p))
	}
	return d
}
