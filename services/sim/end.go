package sim

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/orlog-io/orlog/services/loop"
	"github.com/orlog-io/orlog/services/reconcilers/replica"
)

// atRest says whether nobody has anything to do but to let time pass.
func (w *world) atRest() bool {
	for _, p := range w.processes {
		if !p.idle() || slices.ContainsFunc(p.units, func(u *unit) bool { return len(u.failures) > 0 }) {
			return false
		}
	}
	return !slices.ContainsFunc(w.nodes, func(n *node) bool { return !n.idle() })
}

// unrest says who still has something to do.
func (w *world) unrest() string {
	var out []string
	for _, p := range w.processes {
		for _, u := range p.units {
			if len(u.dirty)+len(u.failures)+len(u.working) > 0 {
				out = append(out, fmt.Sprintf("%s: %d dirty, %d failing, %d working (own writes %v, projection at %d of %d)",
					u.spec.Name, len(u.dirty), len(u.failures), len(u.working), u.wrote, p.main.position(), w.record.last()))
			}
		}
	}
	for _, n := range w.nodes {
		if !n.idle() {
			out = append(out, n.name)
		}
	}
	return strings.Join(out, "; ")
}

// expectEnd checks that the world has come to rest where it should.
func (w *world) expectEnd() {
	e := &ending{w: w, v: w.view()}
	for _, d := range loop.Deployments.List(e.v, "") {
		e.deployment(d)
	}
	e.pods()
	e.services()
	e.nodes()
	e.namespaces()
	if err := e.v.Err(); err != nil {
		e.wrong("%v", err)
	}
	for _, p := range w.processes {
		for _, s := range p.projections() {
			s.compareAll()
		}
	}
	if len(e.wrongs) > 0 {
		w.fail(Converges, "the world is at rest, but not where it should be:\n  %s", strings.Join(e.wrongs, "\n  "))
	}
}

// ending collects what is wrong with a world at rest.
type ending struct {
	w      *world
	v      *loop.View
	wrongs []string
}

func (e *ending) wrong(format string, args ...any) {
	e.wrongs = append(e.wrongs, fmt.Sprintf(format, args...))
}

func (e *ending) deployment(d *appsv1.Deployment) {
	want, s := *d.Spec.Replicas, d.Status
	if d.DeletionTimestamp != nil {
		e.wrong("%s is still being deleted", d.Name)
		return
	}
	if s.ObservedGeneration != d.Generation || s.Replicas != want || s.UpdatedReplicas != want || s.ReadyReplicas != want || s.AvailableReplicas != want {
		e.wrong("%s wants %d, generation %d; status %+v", d.Name, want, d.Generation, s)
	}
	old, current := 0, 0
	for _, rs := range loop.ReplicaSets.OwnedBy(e.v, string(d.UID)) {
		newest := rs.Spec.Template.Spec.Containers[0].Image == d.Spec.Template.Spec.Containers[0].Image
		if newest {
			current++
		} else {
			old++
		}
		if size := *rs.Spec.Replicas; (newest && size != want) || (!newest && size != 0) || rs.Status.Replicas != size {
			e.wrong("%s of %s: newest %t, wants %d of %d, has %d", rs.Name, d.Name, newest, size, want, rs.Status.Replicas)
		}
		e.pod(d, rs, newest)
	}
	if current != 1 || old > int(*d.Spec.RevisionHistoryLimit) {
		e.wrong("%s has %d replica sets of its template and %d old ones, at most %d", d.Name, current, old, *d.Spec.RevisionHistoryLimit)
	}
}

func (e *ending) pod(d *appsv1.Deployment, rs *appsv1.ReplicaSet, newest bool) {
	ready := 0
	for _, p := range loop.Pods.OwnedBy(e.v, string(rs.UID)) {
		switch {
		case !replica.Active(p):
		case replica.Ready(p) == nil || p.Spec.NodeName == "":
			e.wrong("pod %s of %s is not ready, node %q: %+v", p.Name, d.Name, p.Spec.NodeName, p.Status.Conditions)
		default:
			ready++
		}
	}
	if newest && ready != int(*d.Spec.Replicas) || !newest && ready != 0 {
		e.wrong("%s of %s has %d ready pods, newest %t, wants %d", rs.Name, d.Name, ready, newest, *d.Spec.Replicas)
	}
}

// pods: nobody is left without an owner or half deleted, and each node runs what is bound to it.
func (e *ending) pods() {
	on := map[string]map[string]bool{}
	for _, p := range loop.Pods.List(e.v, "") {
		if p.DeletionTimestamp != nil {
			e.wrong("pod %s is still being deleted", p.Name)
		}
		ref := metav1.GetControllerOf(p)
		if ref == nil {
			e.wrong("pod %s has no owner", p.Name)
		} else if rs := loop.ReplicaSets.Get(e.v, p.Namespace, ref.Name); rs == nil || rs.UID != ref.UID {
			e.wrong("pod %s has outlived %s", p.Name, ref.Name)
		}
		if on[p.Spec.NodeName] == nil {
			on[p.Spec.NodeName] = map[string]bool{}
		}
		on[p.Spec.NodeName][string(p.UID)] = true
	}
	for _, rs := range loop.ReplicaSets.List(e.v, "") {
		ref := metav1.GetControllerOf(rs)
		if ref == nil || deploymentOf(e.v, ref.UID) == nil {
			e.wrong("replica set %s has no owner", rs.Name)
		}
	}
	for _, n := range e.w.nodes {
		runs := map[string]bool{}
		for _, r := range n.pods {
			runs[r.uid] = true
		}
		if !maps.Equal(runs, on[n.name]) && len(runs)+len(on[n.name]) > 0 {
			e.wrong("%s runs %v, bound to it are %v", n.name, runs, on[n.name])
		}
	}
}

// services: every Service's traffic goes to the ready pods behind it, and nobody else's traffic anywhere.
func (e *ending) services() {
	for _, s := range loop.EndpointSlices.List(e.v, "") {
		if loop.Services.Get(e.v, s.Namespace, s.Labels[discoveryv1.LabelServiceName]) == nil {
			e.wrong("endpoint slice %s has outlived its service", s.Name)
		}
	}
	for _, o := range loop.Endpoints.List(e.v, "") {
		if loop.Services.Get(e.v, o.Namespace, o.Name) == nil {
			e.wrong("endpoints %s have outlived their service", o.Name)
		}
	}
	for _, s := range loop.Services.List(e.v, "") {
		e.service(s)
	}
}

func (e *ending) service(s *corev1.Service) {
	var want, slice, legacy []string
	selector := labels.SelectorFromSet(s.Spec.Selector)
	for _, p := range loop.Pods.List(e.v, s.Namespace) {
		if selector.Matches(labels.Set(p.Labels)) && replica.Active(p) && replica.Ready(p) != nil {
			want = append(want, p.Status.PodIP)
		}
	}
	for _, es := range loop.EndpointSlices.OwnedBy(e.v, string(s.UID)) {
		for _, ep := range es.Endpoints {
			if *ep.Conditions.Ready {
				slice = append(slice, ep.Addresses...)
			}
		}
	}
	if o := loop.Endpoints.Get(e.v, s.Namespace, s.Name); o != nil {
		for _, subset := range o.Subsets {
			for _, a := range subset.Addresses {
				legacy = append(legacy, a.IP)
			}
		}
	}
	for _, list := range [][]string{want, slice, legacy} {
		slices.Sort(list)
	}
	if !slices.Equal(want, slice) || !slices.Equal(want, legacy) {
		e.wrong("service %s: ready are %v, its slices say %v, its endpoints %v", s.Name, want, slice, legacy)
	}
}

func (e *ending) nodes() {
	for _, n := range e.w.nodes {
		o := loop.Nodes.Get(e.v, "", n.name)
		if o == nil || len(o.Spec.Taints) > 0 || !n.saysReady(e.w.record.now(n.key())) {
			e.wrong("%s is not in service: %+v", n.name, o)
		}
	}
}

func (e *ending) namespaces() {
	for _, ns := range loop.Namespaces.List(e.v, "") {
		if ns.DeletionTimestamp != nil {
			e.wrong("namespace %s is still being deleted: %d things in it", ns.Name, len(e.v.Contents(ns.Name)))
			continue
		}
		if loop.ServiceAccounts.Get(e.v, ns.Name, "default") == nil || loop.ConfigMaps.Get(e.v, ns.Name, "kube-root-ca.crt") == nil {
			e.wrong("namespace %s has no account or no certificate authority", ns.Name)
		}
	}
	if loop.Namespaces.Get(e.v, "", lab) == nil {
		for _, m := range e.v.Contents(lab) {
			e.wrong("%s has outlived its namespace", m.Key)
		}
	}
}
