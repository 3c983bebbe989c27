package deployment

import (
	"cmp"
	"math"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
)

// scaled says whether the Deployment's size was changed since its ReplicaSets were last sized. Where a Deployment
// that recreates its pods has several with replicas, because it adopted them or was of the other kind, there is
// nothing to share out: to recreate settles it. (Upstream's controller stands still there for ever.)
func (r *rollout) scaled() bool {
	if r.d.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType && !r.d.Spec.Paused && r.onlyActive() == nil && !r.saturated() {
		return false
	}
	for _, rs := range active(r.all) {
		if n, ok := sizeAnnotation(rs, desiredAnnotation); ok && n != *r.d.Spec.Replicas {
			return true
		}
	}
	return false
}

// scale distributes the Deployment's size over its ReplicaSets in the proportion that they have, so that a
// change of size in the middle of a rollout does not hasten the rollout.
func (r *rollout) scale() {
	if only := r.onlyActive(); only != nil {
		if *only.Spec.Replicas != *r.d.Spec.Replicas {
			r.setReplicas(only, *r.d.Spec.Replicas)
		}
		r.annotateSize(only.ReplicaSet)
		return
	}
	if r.saturated() {
		for _, rs := range active(r.old) {
			r.setReplicas(rs, 0)
		}
		return
	}
	if r.d.Spec.Strategy.Type == appsv1.RollingUpdateDeploymentStrategyType {
		r.share()
	}
}

// onlyActive is the one ReplicaSet with replicas, or the newest where none has any; nil where several have.
func (r *rollout) onlyActive() *replicaSet {
	switch a := active(r.all); {
	case len(a) == 1:
		return a[0]
	case len(a) > 1:
		return nil
	}
	if r.current != nil {
		return r.current
	}
	if len(r.old) > 0 {
		return r.old[len(r.old)-1]
	}
	return nil
}

// saturated: the new ReplicaSet is complete by itself.
func (r *rollout) saturated() bool {
	if r.current == nil {
		return false
	}
	want := *r.d.Spec.Replicas
	desired, ok := sizeAnnotation(r.current, desiredAnnotation)
	return ok && desired == want && *r.current.Spec.Replicas == want && r.current.Status.AvailableReplicas == want
}

// share adds or takes replicas in proportion to the sizes; what rounding leaves goes to the largest.
func (r *rollout) share() {
	sets := active(r.all)
	var allowed int32
	if *r.d.Spec.Replicas > 0 {
		allowed = *r.d.Spec.Replicas + r.surge
	}
	add := allowed - total(sets)
	slices.SortStableFunc(sets, func(a, b *replicaSet) int {
		age := byAge(a, b) // taking: older first; adding: newer first
		if add > 0 {
			age = -age
		}
		return cmp.Or(-cmp.Compare(*a.Spec.Replicas, *b.Spec.Replicas), age)
	})
	sizes := make([]int32, len(sets))
	var added int32
	for i, rs := range sets {
		n := r.proportion(rs, add, added)
		sizes[i] = *rs.Spec.Replicas + n
		added += n
	}
	if len(sets) > 0 && add != 0 {
		sizes[0] = max(0, sizes[0]+add-added)
	}
	for i, rs := range sets {
		r.setReplicas(rs, sizes[i])
	}
}

// proportion is what one ReplicaSet gets of add, of which added is given out already.
func (r *rollout) proportion(rs *replicaSet, add, added int32) int32 {
	if add == 0 || add == added {
		return 0
	}
	part := r.fraction(rs)
	if add > 0 {
		return min(part, add-added)
	}
	return max(part, add-added)
}

func (r *rollout) fraction(rs *replicaSet) int32 {
	if *r.d.Spec.Replicas == 0 {
		return -*rs.Spec.Replicas
	}
	before, ok := sizeAnnotation(rs, maxAnnotation)
	if !ok || before == 0 {
		if before = r.d.Status.Replicas; before == 0 {
			return 0
		}
	}
	size := float64(*rs.Spec.Replicas) * float64(*r.d.Spec.Replicas+r.surge) / float64(before)
	return int32(math.Round(size)) - *rs.Spec.Replicas
}

// cleanUp removes the oldest empty ReplicaSets beyond the history limit.
func (r *rollout) cleanUp() {
	if r.d.Spec.RevisionHistoryLimit == nil || *r.d.Spec.RevisionHistoryLimit == math.MaxInt32 {
		return
	}
	var candidates []*replicaSet
	for _, rs := range r.old {
		if rs.DeletionTimestamp == nil {
			candidates = append(candidates, rs)
		}
	}
	slices.SortStableFunc(candidates, func(a, b *replicaSet) int { return cmp.Compare(revisionOf(a), revisionOf(b)) })
	excess := len(candidates) - int(*r.d.Spec.RevisionHistoryLimit)
	for i := range max(0, excess) {
		rs := candidates[i]
		if rs.Status.Replicas == 0 && *rs.Spec.Replicas == 0 && rs.Generation <= rs.Status.ObservedGeneration {
			r.remove = append(r.remove, rs)
		}
	}
}
