package deployment

import (
	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/orlog-io/orlog/services/reconcilers/replica"
)

// room is how large the new ReplicaSet, of size have, may become now.
func (r *rollout) room(have int32) int32 {
	want := *r.d.Spec.Replicas
	if r.d.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType {
		return want
	}
	free := want + r.surge
	for _, rs := range r.all {
		if rs != r.current && unaware(rs) {
			return have
		}
		// What was scaled down but still runs takes room too: the bound holds for pods, not only for plans.
		free -= max(*rs.Spec.Replicas, rs.Status.Replicas)
	}
	if free <= 0 {
		return have
	}
	return have + min(free, want-have)
}

// roll moves replicas from the old ReplicaSets to the new one, as far as surge and availability permit.
func (r *rollout) roll(ref metav1.OwnerReference) {
	if r.current == nil {
		r.makeNew(ref)
		return
	}
	r.syncRevision()
	r.growNew()
	if !r.resized() {
		r.shrinkOld()
	}
	if !r.resized() && r.complete(&r.d.Status) {
		r.cleanUp()
	}
}

func (r *rollout) growNew() {
	have, want := *r.current.Spec.Replicas, *r.d.Spec.Replicas
	switch {
	case have > want:
		r.setReplicas(r.current, want)
	case have < want:
		if n := r.room(have); n != have {
			r.setReplicas(r.current, n)
		}
	}
}

// shrinkOld takes replicas from old ReplicaSets: first those that are not available anyway, then as many as
// leave minAvailable. Replicas of the new set that are not available yet do not count.
func (r *rollout) shrinkOld() {
	if total(r.old) == 0 {
		return
	}
	minAvailable := *r.d.Spec.Replicas - r.unavailable
	unavailableNew := *r.current.Spec.Replicas - r.current.Status.AvailableReplicas
	budget := total(r.all) - minAvailable - unavailableNew
	if budget <= 0 {
		return
	}
	for _, rs := range r.old {
		broken := *rs.Spec.Replicas - surely(rs)
		if n := min(broken, budget); n > 0 {
			r.setReplicas(rs, *rs.Spec.Replicas-n)
			budget -= n
		}
	}
	var available int32
	for _, rs := range r.all {
		available += surely(rs)
	}
	spare := min(available-minAvailable, budget)
	for _, rs := range r.old {
		if n := min(*rs.Spec.Replicas, spare); n > 0 {
			r.setReplicas(rs, *rs.Spec.Replicas-n)
			spare -= n
		}
	}
}

// recreate ends all old pods before it starts new ones.
func (r *rollout) recreate(ref metav1.OwnerReference) {
	r.syncRevision()
	for _, rs := range active(r.old) {
		r.setReplicas(rs, 0)
	}
	if r.resized() || r.oldPodsRun() {
		return
	}
	if r.current == nil {
		r.makeNew(ref)
		return
	}
	if *r.current.Spec.Replicas != *r.d.Spec.Replicas {
		r.setReplicas(r.current, *r.d.Spec.Replicas)
	}
	if r.complete(&r.d.Status) {
		r.cleanUp()
	}
}

// unaware says whether a ReplicaSet has not taken note yet of what it is to be. Then it may have pods under way that
// nobody has counted.
func unaware(rs *replicaSet) bool { return rs.Status.ObservedGeneration < rs.Generation }

// oldPodsRun says whether old pods run, or may.
func (r *rollout) oldPodsRun() bool {
	for _, rs := range r.old {
		if unaware(rs) || rs.Status.Replicas > 0 {
			return true
		}
		for _, p := range r.podsOf(rs.seen) {
			if !replica.Finished(p) {
				return true
			}
		}
	}
	return false
}
