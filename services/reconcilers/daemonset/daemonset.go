package daemonset

import (
	"cmp"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/services/loop"
	"github.com/orlog-io/orlog/services/reconcilers/claim"
	"github.com/orlog-io/orlog/services/reconcilers/replica"
	"github.com/orlog-io/orlog/services/reconcilers/revision"
)

// Reconciler decides about DaemonSets.
type Reconciler struct{}

// Spec declares what the reconciler reads and writes.
func (Reconciler) Spec() loop.Spec {
	return loop.Spec{
		Name:     "daemonset",
		Identity: loop.ServiceAccount("daemon-set-controller"),
		Inputs: []loop.Input{
			{Group: "apps", Resource: "daemonsets", Keys: loop.Itself},
			{Group: "apps", Resource: "controllerrevisions", Keys: ofRevision},
			{Resource: "pods", Keys: ofPod},
			{Resource: "nodes", Keys: ofNode},
		},
		Outputs: []loop.Output{
			{Group: "apps", Resource: "daemonsets", Subresource: "status"},
			{Group: "apps", Resource: "controllerrevisions", Shared: true},
			{Resource: "pods", Shared: true},
		},
		Workers: 2,
	}
}

func ofRevision(v *loop.View, c loop.Change) []events.Key {
	return replica.Controllers(loop.DaemonSets, loop.Revisions.Of(v, c.Prev), loop.Revisions.Of(v, c.Next))
}

func ofPod(v *loop.View, c loop.Change) []events.Key {
	prev, next := loop.Pods.Of(v, c.Prev), loop.Pods.Of(v, c.Next)
	out := replica.Controllers(loop.DaemonSets, prev, next)
	if next != nil && metav1.GetControllerOfNoCopy(next) == nil && next.DeletionTimestamp == nil {
		for _, ds := range loop.DaemonSets.List(v, next.Namespace) {
			if replica.Selects(ds.Spec.Selector, next) {
				out = append(out, loop.DaemonSets.KeyOf(ds))
			}
		}
	}
	return out
}

// ofNode makes every DaemonSet look at a node that has come, gone, or changed what it admits.
func ofNode(v *loop.View, c loop.Change) []events.Key {
	prev, next := loop.Nodes.Of(v, c.Prev), loop.Nodes.Of(v, c.Next)
	if prev != nil && next != nil && equality.Semantic.DeepEqual(prev.Labels, next.Labels) && equality.Semantic.DeepEqual(prev.Spec, next.Spec) {
		return nil
	}
	var out []events.Key
	for _, ds := range loop.DaemonSets.List(v, "") {
		out = append(out, loop.DaemonSets.KeyOf(ds))
	}
	return out
}

// round is one decision in the making.
type round struct {
	v   *loop.View
	now time.Time
	ds  *appsv1.DaemonSet
	ref metav1.OwnerReference
	// hash is the revision of the template; names gives names to new pods.
	hash  string
	names *replica.Namer
	nodes []*corev1.Node
	on    map[string][]*corev1.Pod // by node, oldest first
	out   loop.Decision
}

// Decide decides about one DaemonSet.
func (Reconciler) Decide(v *loop.View, key events.Key, now time.Time) loop.Decision {
	ds := loop.DaemonSets.At(v, key)
	if ds == nil {
		return loop.Decision{}
	}
	selector, err := metav1.LabelSelectorAsSelector(ds.Spec.Selector)
	if err != nil || selector.Empty() {
		return loop.Decision{} // the API admits neither
	}
	r := &round{v: v, now: now, ds: ds, ref: *metav1.NewControllerRef(ds, loop.DaemonSets.GVK()), nodes: loop.Nodes.List(v, "")}
	r.names = replica.Names(v, loop.Pods, ds.Namespace, ds.Name+"-", string(ds.UID))
	history, err := revision.Of(v, revision.Owner{Object: ds, Ref: r.ref, Selector: ds.Spec.Selector, Template: &ds.Spec.Template, Collisions: ds.Status.CollisionCount})
	if err != nil {
		v.Fail(err)
		return loop.Decision{}
	}
	if history.Collided {
		next := ds.DeepCopy()
		next.Status.CollisionCount = new(replica.Deref(ds.Status.CollisionCount, 0) + 1)
		r.out.Do(loop.DaemonSets.UpdateStatus(next))
		return r.out
	}
	r.hash = history.Current.Labels[revision.Label]
	r.load(selector, &history)
	if ds.DeletionTimestamp == nil {
		r.out.Do(history.Effects...)
		if !r.manage() {
			r.update()
		}
	}
	r.report()
	return r.out
}

// load finds the DaemonSet's pods, and which of its revisions they use.
func (r *round) load(selector labels.Selector, history *revision.History) {
	pods, claims := claim.Of(r.v, loop.Pods, r.ds, r.ref, selector, nil)
	r.out.Do(claims...)
	r.on = map[string][]*corev1.Pod{}
	live := map[string]bool{}
	for _, p := range pods {
		live[p.Labels[revision.Label]] = true
		if node := target(p); node != "" {
			r.on[node] = append(r.on[node], p)
		}
	}
	for _, list := range r.on {
		slices.SortStableFunc(list, func(a, b *corev1.Pod) int {
			return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
		})
	}
	history.Trim(r.ds.Spec.RevisionHistoryLimit, live)
}

// target is the node that a pod is on, or is made for.
func target(p *corev1.Pod) string {
	if p.Spec.NodeName != "" {
		return p.Spec.NodeName
	}
	a := p.Spec.Affinity
	if a == nil || a.NodeAffinity == nil || a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution == nil {
		return ""
	}
	for _, term := range a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms {
		for _, f := range term.MatchFields {
			if f.Key == metav1.ObjectNameField && f.Operator == corev1.NodeSelectorOpIn && len(f.Values) == 1 {
				return f.Values[0]
			}
		}
	}
	return ""
}
