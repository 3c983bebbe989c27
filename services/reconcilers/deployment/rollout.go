package deployment

import (
	"cmp"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/orlog-io/orlog/services/loop"
)

// rollout is one decision in the making: copies of a Deployment and its ReplicaSets that the rules edit.
type rollout struct {
	v    *loop.View
	now  time.Time
	seen *appsv1.Deployment
	d    *appsv1.Deployment
	// all are the ReplicaSets from oldest to newest; current is the one with the Deployment's template, nil
	// where there is none; old are all others.
	all     []*replicaSet
	current *replicaSet
	old     []*replicaSet
	// create is a ReplicaSet to be created.
	create *appsv1.ReplicaSet
	remove []*replicaSet
	again  time.Duration

	surge, unavailable int32
}

// replicaSet is a private copy with what it was.
type replicaSet struct {
	*appsv1.ReplicaSet
	seen *appsv1.ReplicaSet
}

func newRollout(v *loop.View, seen *appsv1.Deployment, sets []*appsv1.ReplicaSet, now time.Time) *rollout {
	r := &rollout{v: v, now: now, seen: seen, d: seen.DeepCopy()}
	if r.d.Spec.Replicas == nil {
		r.d.Spec.Replicas = new(int32(1))
	}
	for _, rs := range sets {
		c := &replicaSet{rs.DeepCopy(), rs}
		if c.Spec.Replicas == nil {
			c.Spec.Replicas = new(int32(1))
		}
		r.all = append(r.all, c)
	}
	slices.SortFunc(r.all, byAge)
	for _, rs := range r.all {
		if r.current == nil && sameTemplate(&rs.Spec.Template, &r.d.Spec.Template) {
			r.current = rs
		} else {
			r.old = append(r.old, rs)
		}
	}
	r.surge, r.unavailable = fenceposts(r.d)
	return r
}

func byAge(a, b *replicaSet) int {
	return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(revisionOf(a), revisionOf(b)), cmp.Compare(a.Name, b.Name))
}

// fenceposts resolves maxSurge and maxUnavailable; never both 0.
func fenceposts(d *appsv1.Deployment) (surge, unavailable int32) {
	u := d.Spec.Strategy.RollingUpdate
	if d.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType || u == nil || *d.Spec.Replicas == 0 {
		return 0, 0
	}
	surge = scaled(u.MaxSurge, *d.Spec.Replicas, true)
	unavailable = scaled(u.MaxUnavailable, *d.Spec.Replicas, false)
	if surge == 0 && unavailable == 0 {
		unavailable = 1
	}
	return surge, min(unavailable, *d.Spec.Replicas)
}

func scaled(v *intstr.IntOrString, of int32, up bool) int32 {
	if v == nil {
		return 0
	}
	n, err := intstr.GetScaledValueFromIntOrPercent(v, int(of), up)
	if err != nil {
		return 0 // the API admits only numbers and percentages
	}
	return int32(n)
}

// setReplicas scales a ReplicaSet in the copy.
func (r *rollout) setReplicas(rs *replicaSet, n int32) {
	*rs.Spec.Replicas = n
	r.annotateSize(rs.ReplicaSet)
}

// resized says whether a rule has moved replicas.
func (r *rollout) resized() bool {
	for _, rs := range r.all {
		if rs.seen.Spec.Replicas == nil || *rs.seen.Spec.Replicas != *rs.Spec.Replicas {
			return true
		}
	}
	return r.create != nil
}

func active(sets []*replicaSet) []*replicaSet {
	return slices.DeleteFunc(slices.Clone(sets), func(rs *replicaSet) bool { return *rs.Spec.Replicas == 0 })
}

func total(sets []*replicaSet) (n int32) {
	for _, rs := range sets {
		n += *rs.Spec.Replicas
	}
	return n
}

// surely counts the replicas of a set that are available and stay so: a set that was just scaled down may
// still report those that are about to go.
func surely(rs *replicaSet) int32 { return min(rs.Status.AvailableReplicas, *rs.Spec.Replicas) }

// effects turns the difference between the copies and what was read into writes. ReplicaSets shrink before
// others grow only by the rules' own accounting, so the order among them does not matter.
func (r *rollout) effects(out *loop.Decision) {
	var sets []loop.Effect
	for _, rs := range r.all {
		if !equality.Semantic.DeepEqual(rs.seen.Spec, rs.Spec) || !equality.Semantic.DeepEqual(rs.seen.Annotations, rs.Annotations) {
			sets = append(sets, loop.ReplicaSets.Update(rs.ReplicaSet))
		}
	}
	if r.create != nil {
		sets = append(sets, loop.ReplicaSets.Create(r.create))
	}
	for _, rs := range r.remove {
		e := loop.ReplicaSets.Delete(rs.seen)
		e.ResourceVersion = rs.seen.ResourceVersion // it must still be empty
		sets = append(sets, e)
	}
	out.Do(sets...)
	if !equality.Semantic.DeepEqual(r.seen.Status, r.d.Status) || !equality.Semantic.DeepEqual(r.seen.Annotations, r.d.Annotations) {
		r.d.Spec = r.seen.Spec
		out.Then(loop.Deployments.UpdateStatus(r.d))
	}
	if r.again > 0 {
		out.AgainIn(r.again)
	}
}
