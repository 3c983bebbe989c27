package statefulset

import (
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"

	"github.com/orlog-io/orlog/services/loop"
	"github.com/orlog-io/orlog/services/reconcilers/replica"
)

// count takes stock of the pods as they are.
func (r *round) count(pods []*corev1.Pod) {
	s := &r.status
	s.ObservedGeneration = r.set.Generation
	s.Replicas, s.ReadyReplicas, s.AvailableReplicas, s.CurrentReplicas, s.UpdatedReplicas = 0, 0, 0, 0, 0
	s.CurrentRevision, s.UpdateRevision = r.current.Name, r.update.Name
	for _, p := range pods {
		s.Replicas++
		if p.Status.Phase == corev1.PodRunning && replica.Ready(p) != nil {
			s.ReadyReplicas++
			if r.serving(p) {
				s.AvailableReplicas++
			}
		}
		if p.DeletionTimestamp != nil {
			continue
		}
		if revisionOf(p) == r.current.Name {
			s.CurrentReplicas++
		}
		if revisionOf(p) == r.update.Name {
			s.UpdatedReplicas++
		}
	}
}

// made counts a pod that is about to be made.
func (r *round) made(i int) {
	r.status.Replicas++
	rev := r.revisionFor(i)
	if rev == r.current {
		r.status.CurrentReplicas++
	}
	if rev == r.update {
		r.status.UpdatedReplicas++
	}
}

// complete makes the update revision the current one when every pod is of it and ready.
func (r *round) complete() {
	s := &r.status
	if r.set.Spec.UpdateStrategy.Type == appsv1.RollingUpdateStatefulSetStrategyType &&
		s.UpdatedReplicas == s.Replicas && s.ReadyReplicas == s.Replicas && int(s.Replicas) == len(r.replicas) {
		s.CurrentReplicas, s.CurrentRevision = s.UpdatedReplicas, s.UpdateRevision
	}
}

func (r *round) write() {
	if equality.Semantic.DeepEqual(r.set.Status, r.status) {
		return
	}
	next := r.set.DeepCopy()
	next.Status = r.status
	r.out.Do(loop.StatefulSets.UpdateStatus(next))
}
