package sim

import (
	"cmp"
	"maps"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/services/loop"
	"github.com/orlog-io/orlog/services/reconcilers/replica"
)

// family is a Deployment with its ReplicaSets and their pods, as the truth has them.
//
// The promise of a rolling update is one about the control plane's own deeds: it deletes no available pod
// where too few would be left, and creates none where there are enough. It can only keep it for what it knows
// of. So a family is not held to its floor from the moment when something else took a pod away until the
// reconcilers have seen that and report what is. And it is held to neither floor nor ceiling while its size
// changes, or while it adopts: as in upstream, a change of size is shared out among the ReplicaSets in
// proportion, whoever is available. A Recreate starts no pod while one of another template may still run; but one
// that is paused midway gives its pods to the newest ReplicaSet at once, as in upstream, and one that has adopted
// an old pod still replaces the others.
type family struct {
	key events.Key
	// armed: the floor holds. bounded: the ceiling does.
	armed, bounded bool
	// shape and available are of the newest event.
	shape     shape
	available int
	// touched is the newest event about any member.
	touched events.Sequence
}

// shape is what people ask for: the size, the fewest pods that must be available, the most that may be there.
type shape struct{ size, floor, ceiling int }

// members are a family's present state.
type members struct {
	sets []*appsv1.ReplicaSet
	// active and available count pods, planned what the sets are to have.
	active, available, planned int
	shape                      shape
	// settled: what the sets say of their pods is so, and they have as many as they are to have, by the newest
	// word about the Deployment.
	settled bool
}

const replicaSetController = "system:serviceaccount:kube-system:replicaset-controller"

// seeFamily checks the promise where an event is about a member of a family.
func (r *rules) seeFamily(v *loop.View, e events.Event, prev, next events.State) {
	for _, uid := range familiesOf(v, prev, next) {
		d := deploymentOf(v, uid)
		if d == nil {
			delete(r.families, uid)
			continue
		}
		m := r.measure(v, d)
		f := r.families[uid]
		if f == nil {
			f = &family{key: loop.Deployments.KeyOf(d), shape: m.shape}
			r.families[uid] = f
		}
		f.touched = e.Sequence
		if m.shape != f.shape || e.Verb() == "owner-changed" || d.DeletionTimestamp != nil || (recreates(d) && d.Spec.Paused) {
			f.armed, f.bounded = false, false
		}
		own, lost := e.Actor == replicaSetController && loop.Pods.Is(e.Subject.Key), r.lost(v, d, prev, next) || m.available < f.available
		switch {
		case own && e.Verb() == events.Created && f.bounded && m.active > m.shape.ceiling:
			r.w.fail(Ceiling, "event %d gives %s %d pods, more than %d", e.Sequence, d.Name, m.active, m.shape.ceiling)
		case own && e.Verb() == events.Created && f.bounded && recreates(d) && overlaps(v, m, metav1.GetControllerOf(loop.Pods.Of(v, next)).UID):
			r.w.fail(NoOverlap, "event %d starts a pod of %s beside old ones", e.Sequence, d.Name)
		case own && lost && f.armed && m.available < m.shape.floor:
			r.w.fail(Availability, "event %d leaves %s %d available pods, fewer than %d", e.Sequence, d.Name, m.available, m.shape.floor)
		case !own && lost, m.available < m.shape.floor:
			f.armed = false
		}
		f.shape, f.available = m.shape, m.available
	}
}

// now is what the reconcilers' clock says: by it they count pods as available.
func (r *rules) now() time.Time {
	if len(r.w.processes) < 2 {
		return r.w.clock.now
	}
	return r.w.processes[1].now()
}

// clockJumped holds nobody to a floor until pods have been counted by the new time.
func (r *rules) clockJumped() {
	for _, f := range r.families { // order does not matter: each is changed alone
		f.armed = false
	}
}

func recreates(d *appsv1.Deployment) bool {
	return d.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType
}

// overlaps says whether pods of other ReplicaSets of the family than one may still run.
func overlaps(v *loop.View, m *members, own types.UID) bool {
	return slices.ContainsFunc(m.sets, func(rs *appsv1.ReplicaSet) bool {
		return rs.UID != own && slices.ContainsFunc(loop.Pods.OwnedBy(v, string(rs.UID)), func(p *corev1.Pod) bool { return !replica.Finished(p) })
	})
}

// mixed says whether pods of more than one ReplicaSet of the family may still run.
func mixed(v *loop.View, m *members) bool {
	return !slices.ContainsFunc(m.sets, func(rs *appsv1.ReplicaSet) bool { return !overlaps(v, m, rs.UID) })
}

// lost says whether a pod that was available is so no more.
func (r *rules) lost(v *loop.View, d *appsv1.Deployment, prev, next events.State) bool {
	counts := func(s events.State) bool {
		p := loop.Pods.Of(v, s)
		if p == nil || !belongs(d, p) {
			return false
		}
		ok, _ := replica.Available(p, d.Spec.MinReadySeconds, r.now())
		return ok
	}
	return counts(prev) && !counts(next)
}

// belongs says whether a pod counts for a Deployment: one whose labels were changed is as good as gone.
func belongs(d *appsv1.Deployment, p *corev1.Pod) bool {
	return replica.Active(p) && labels.SelectorFromSet(d.Spec.Selector.MatchLabels).Matches(labels.Set(p.Labels))
}

// poll holds families to their bounds again whose trouble the reconcilers know of and have settled.
func (r *rules) poll() {
	p := r.w.processes[1]
	if !p.up || !p.started || p.main.news() {
		return
	}
	for _, uid := range slices.SortedFunc(maps.Keys(r.families), cmp.Compare) {
		f := r.families[uid]
		if p.main.position() < f.touched || (f.armed && f.bounded) {
			continue
		}
		v := r.w.view()
		d := deploymentOf(v, uid)
		if d == nil {
			delete(r.families, uid)
			continue
		}
		m := r.measure(v, d)
		if !m.settled || d.DeletionTimestamp != nil || f.underWay(p, m) {
			continue
		}
		f.armed = f.armed || m.available >= m.shape.floor
		f.available = m.available
		if recreates(d) && (d.Spec.Paused || mixed(v, m)) {
			continue
		}
		f.bounded = f.bounded || m.planned <= m.shape.ceiling && m.active <= m.shape.ceiling
	}
}

// underWay says whether a decision about a member is being performed, on knowledge that may be old.
func (f *family) underWay(p *process, m *members) bool {
	return p.busyWith("deployment", func(k events.Key) bool { return k == f.key }) ||
		p.busyWith("replicaset", func(k events.Key) bool {
			return slices.ContainsFunc(m.sets, func(rs *appsv1.ReplicaSet) bool { return k == loop.ReplicaSets.KeyOf(rs) })
		})
}

// familiesOf are the uids of the Deployments that an object belongs or belonged to.
func familiesOf(v *loop.View, states ...events.State) []types.UID {
	var out []types.UID
	add := func(uid types.UID) {
		if uid != "" && !slices.Contains(out, uid) {
			out = append(out, uid)
		}
	}
	controller := func(o metav1.Object) *metav1.OwnerReference {
		if ref := metav1.GetControllerOfNoCopy(o); ref != nil {
			return ref
		}
		return &metav1.OwnerReference{}
	}
	for _, s := range states {
		if d := loop.Deployments.Of(v, s); d != nil {
			add(d.UID)
		}
		if rs := loop.ReplicaSets.Of(v, s); rs != nil {
			add(controller(rs).UID)
		}
		if p := loop.Pods.Of(v, s); p != nil {
			if rs := loop.ReplicaSets.Get(v, p.Namespace, controller(p).Name); rs != nil {
				add(controller(rs).UID)
			}
		}
	}
	return out
}

func deploymentOf(v *loop.View, uid types.UID) *appsv1.Deployment {
	all := loop.Deployments.List(v, "")
	if i := slices.IndexFunc(all, func(d *appsv1.Deployment) bool { return d.UID == uid }); i >= 0 {
		return all[i]
	}
	return nil
}

// measure counts a family.
func (r *rules) measure(v *loop.View, d *appsv1.Deployment) *members {
	m := &members{settled: d.Status.ObservedGeneration >= d.Generation}
	now := r.now()
	pods := map[types.UID][]*corev1.Pod{}
	for _, p := range loop.Pods.List(v, d.Namespace) {
		if ref := metav1.GetControllerOfNoCopy(p); ref != nil && belongs(d, p) {
			pods[ref.UID] = append(pods[ref.UID], p)
		}
	}
	for _, rs := range loop.ReplicaSets.List(v, d.Namespace) {
		if ref := metav1.GetControllerOfNoCopy(rs); ref == nil || ref.UID != d.UID {
			continue
		}
		m.sets = append(m.sets, rs)
		m.planned += int(*rs.Spec.Replicas)
		available := 0
		for _, p := range pods[rs.UID] {
			if ok, _ := replica.Available(p, d.Spec.MinReadySeconds, now); ok {
				available++
			}
		}
		m.active += len(pods[rs.UID])
		m.available += available
		if int(rs.Status.AvailableReplicas) != available || int(rs.Status.Replicas) != len(pods[rs.UID]) || rs.Status.Replicas != *rs.Spec.Replicas || rs.Status.ObservedGeneration < rs.Generation {
			m.settled = false
		}
	}
	m.shape.size = int(*d.Spec.Replicas)
	m.shape.floor, m.shape.ceiling = fenceposts(d)
	return m
}

// fenceposts are the fewest pods that must be available and the most that may be there, by upstream's
// rounding. A Recreate has no floor.
func fenceposts(d *appsv1.Deployment) (floor, ceiling int) {
	want := int(*d.Spec.Replicas)
	u := d.Spec.Strategy.RollingUpdate
	if u == nil || want == 0 {
		return 0, want
	}
	surge, err := intstr.GetScaledValueFromIntOrPercent(u.MaxSurge, want, true)
	unavailable, err2 := intstr.GetScaledValueFromIntOrPercent(u.MaxUnavailable, want, false)
	if err != nil || err2 != nil {
		panic("sim: people wrote fenceposts that nobody can read")
	}
	if surge == 0 && unavailable == 0 {
		unavailable = 1
	}
	return want - unavailable, want + surge
}
