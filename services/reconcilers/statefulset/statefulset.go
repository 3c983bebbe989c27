package statefulset

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/services/loop"
	"github.com/orlog-io/orlog/services/reconcilers/claim"
	"github.com/orlog-io/orlog/services/reconcilers/replica"
	"github.com/orlog-io/orlog/services/reconcilers/revision"
)

// Reconciler decides about StatefulSets.
type Reconciler struct{}

// Spec declares what the reconciler reads and writes.
func (Reconciler) Spec() loop.Spec {
	return loop.Spec{
		Name:     "statefulset",
		Identity: loop.ServiceAccount("statefulset-controller"),
		Inputs: []loop.Input{
			{Group: "apps", Resource: "statefulsets", Keys: loop.Itself},
			{Group: "apps", Resource: "controllerrevisions", Keys: func(v *loop.View, c loop.Change) []events.Key {
				return replica.Controllers(loop.StatefulSets, loop.Revisions.Of(v, c.Prev), loop.Revisions.Of(v, c.Next))
			}},
			{Resource: "pods", Keys: ofPod},
			{Resource: "persistentvolumeclaims"},
		},
		Outputs: []loop.Output{
			{Group: "apps", Resource: "statefulsets", Subresource: "status"},
			{Group: "apps", Resource: "controllerrevisions", Shared: true},
			{Resource: "pods", Shared: true},
			{Resource: "persistentvolumeclaims", Shared: true},
		},
		Workers: 4,
	}
}

func ofPod(v *loop.View, c loop.Change) []events.Key {
	prev, next := loop.Pods.Of(v, c.Prev), loop.Pods.Of(v, c.Next)
	out := replica.Controllers(loop.StatefulSets, prev, next)
	if next != nil && metav1.GetControllerOfNoCopy(next) == nil && next.DeletionTimestamp == nil {
		if set := loop.StatefulSets.Get(v, next.Namespace, parentOf(next.Name)); set != nil && replica.Selects(set.Spec.Selector, next) {
			out = append(out, loop.StatefulSets.KeyOf(set))
		}
	}
	return out
}

// parentOf is the name of the set that a pod's name speaks of.
func parentOf(pod string) string {
	i := strings.LastIndexByte(pod, '-')
	if i < 0 {
		return ""
	}
	return pod[:i]
}

// ordinalOf is the number in a pod's name; -1 where there is none.
func ordinalOf(pod string) int {
	n, err := strconv.Atoi(pod[strings.LastIndexByte(pod, '-')+1:])
	if err != nil || n < 0 {
		return -1
	}
	return n
}

// round is one decision in the making.
type round struct {
	v   *loop.View
	now time.Time
	set *appsv1.StatefulSet
	ref metav1.OwnerReference
	// current and update are the revisions that the set is at and going to.
	current, update *appsv1.ControllerRevision
	// replicas are the pods by ordinal from the first on, nil where there is none; condemned are those beyond,
	// highest first.
	replicas, condemned []*corev1.Pod
	start               int
	status              appsv1.StatefulSetStatus
	out                 loop.Decision
}

// Decide decides about one StatefulSet.
func (Reconciler) Decide(v *loop.View, key events.Key, now time.Time) loop.Decision {
	set := loop.StatefulSets.At(v, key)
	if set == nil {
		return loop.Decision{}
	}
	selector, err := metav1.LabelSelectorAsSelector(set.Spec.Selector)
	if err != nil || selector.Empty() {
		return loop.Decision{} // the API admits neither
	}
	r := &round{v: v, now: now, set: set, ref: *metav1.NewControllerRef(set, loop.StatefulSets.GVK()), status: *set.Status.DeepCopy()}
	history, err := revision.Of(v, revision.Owner{Object: set, Ref: r.ref, Selector: set.Spec.Selector, Template: &set.Spec.Template, Collisions: set.Status.CollisionCount})
	if err != nil {
		v.Fail(err)
		return loop.Decision{}
	}
	if history.Collided {
		r.status.CollisionCount = new(replica.Deref(set.Status.CollisionCount, 0) + 1)
		r.write()
		return r.out
	}
	pods, claims := claim.Of(v, loop.Pods, set, r.ref, selector, func(p *corev1.Pod) bool { return parentOf(p.Name) == set.Name && ordinalOf(p.Name) >= 0 })
	r.out.Do(claims...)
	r.load(pods, &history)
	if set.DeletionTimestamp == nil {
		r.out.Do(history.Effects...)
	}
	r.count(pods)
	if set.DeletionTimestamp == nil {
		r.advance()
	}
	r.complete()
	r.write()
	return r.out
}

// load sorts pods by ordinal and picks the revisions.
func (r *round) load(pods []*corev1.Pod, history *revision.History) {
	r.update, r.current = history.Current, history.Current
	live := map[string]bool{r.status.CurrentRevision: true}
	for _, rev := range history.All {
		if rev.Name == r.status.CurrentRevision {
			r.current = rev
		}
	}
	if r.set.Spec.Ordinals != nil {
		r.start = int(r.set.Spec.Ordinals.Start)
	}
	r.replicas = make([]*corev1.Pod, replica.Deref(r.set.Spec.Replicas, 1))
	for _, p := range pods {
		live[revisionOf(p)] = true
		switch i := ordinalOf(p.Name) - r.start; {
		case i >= 0 && i < len(r.replicas):
			r.replicas[i] = p
		case ordinalOf(p.Name) >= 0:
			r.condemned = append(r.condemned, p)
		}
	}
	slices.SortFunc(r.condemned, func(a, b *corev1.Pod) int { return -cmp.Compare(ordinalOf(a.Name), ordinalOf(b.Name)) })
	history.Trim(r.set.Spec.RevisionHistoryLimit, live)
}

func revisionOf(p *corev1.Pod) string { return p.Labels[revision.Label] }
