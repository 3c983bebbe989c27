package statefulset

import (
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/orlog-io/orlog/services/loop"
	"github.com/orlog-io/orlog/services/reconcilers/replica"
)

func (r *round) ordered() bool {
	return r.set.Spec.PodManagementPolicy != appsv1.ParallelPodManagement
}

// serving: running, ready, and so for minReadySeconds.
func (r *round) serving(p *corev1.Pod) bool {
	if p.Status.Phase != corev1.PodRunning || p.DeletionTimestamp != nil {
		return false
	}
	ok, wait := replica.Available(p, r.set.Spec.MinReadySeconds, r.now)
	if wait > 0 {
		r.out.AgainIn(wait)
	}
	return ok
}

// advance takes the next steps. With OrderedReady the first thing that is not as it should be is the only
// one that is seen to.
func (r *round) advance() {
	if r.grow() || r.shrink() {
		return
	}
	r.roll()
}

// grow makes what is missing, from the lowest ordinal up, and clears away what is over. true: wait.
func (r *round) grow() bool {
	for i, p := range r.replicas {
		switch {
		case p == nil:
			r.out.Do(r.make(i)...)
			r.made(i)
			if r.ordered() {
				return true
			}
		case replica.Finished(p):
			if p.DeletionTimestamp == nil {
				r.out.Do(loop.Pods.Delete(p))
			}
			if r.ordered() {
				return true
			}
		case r.ordered() && !r.serving(p):
			return true
		}
	}
	return false
}

// shrink deletes what is beyond the size, from the highest ordinal down. true: wait.
func (r *round) shrink() bool {
	unhealthy := r.lowestUnhealthy()
	for _, p := range r.condemned {
		if p.DeletionTimestamp != nil {
			if r.ordered() {
				return true
			}
			continue
		}
		if r.ordered() && !r.serving(p) && p != unhealthy {
			return true
		}
		r.out.Do(loop.Pods.Delete(p))
		if r.ordered() {
			return true
		}
	}
	return false
}

func (r *round) lowestUnhealthy() *corev1.Pod {
	for _, p := range r.replicas {
		if p != nil && !r.serving(p) {
			return p
		}
	}
	for i := len(r.condemned) - 1; i >= 0; i-- {
		if p := r.condemned[i]; !r.serving(p) {
			return p
		}
	}
	return nil
}

// roll replaces old revisions from the highest ordinal down to the partition, one at a time.
func (r *round) roll() {
	if r.set.Spec.UpdateStrategy.Type == appsv1.OnDeleteStatefulSetStrategyType {
		return
	}
	for i := len(r.replicas) - 1; i >= r.partition(); i-- {
		p := r.replicas[i]
		if p == nil {
			return
		}
		if revisionOf(p) != r.update.Name && p.DeletionTimestamp == nil {
			r.out.Do(loop.Pods.Delete(p))
			if revisionOf(p) == r.current.Name {
				r.status.CurrentReplicas--
			}
			return
		}
		if !r.serving(p) {
			return
		}
	}
}
