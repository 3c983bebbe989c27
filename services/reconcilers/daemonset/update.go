package daemonset

import (
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/orlog-io/orlog/services/loop"
	"github.com/orlog-io/orlog/services/reconcilers/replica"
	"github.com/orlog-io/orlog/services/reconcilers/revision"
)

// bounds resolves maxUnavailable and maxSurge for a number of nodes; both 0 unless updates roll.
func (r *round) bounds(nodes int) (unavailable, surge int) {
	u := r.ds.Spec.UpdateStrategy
	if u.Type != appsv1.RollingUpdateDaemonSetStrategyType || u.RollingUpdate == nil {
		return 0, 0
	}
	number := func(v *intstr.IntOrString, otherwise int) int {
		if v == nil {
			return otherwise
		}
		n, err := intstr.GetScaledValueFromIntOrPercent(v, max(nodes, 1), true)
		if err != nil {
			return otherwise // the API admits only numbers and percentages
		}
		return n
	}
	return number(u.RollingUpdate.MaxUnavailable, 1), number(u.RollingUpdate.MaxSurge, 0)
}

func (r *round) current(p *corev1.Pod) bool { return p.Labels[revision.Label] == r.hash }

func (r *round) available(p *corev1.Pod) bool {
	if p.DeletionTimestamp != nil || replica.Finished(p) {
		return false
	}
	ok, wait := replica.Available(p, r.ds.Spec.MinReadySeconds, r.now)
	if wait > 0 {
		r.out.AgainIn(wait)
	}
	return ok
}

// pair finds the newest living pod of the present revision and of any other on a node.
func (r *round) pair(node string) (fresh, old *corev1.Pod) {
	for _, p := range r.on[node] {
		switch {
		case p.DeletionTimestamp != nil:
		case r.current(p):
			fresh = p
		default:
			old = p
		}
	}
	return fresh, old
}

// update replaces pods of old revisions.
func (r *round) update() {
	if r.ds.Spec.UpdateStrategy.Type != appsv1.RollingUpdateDaemonSetStrategyType {
		return
	}
	var nodes []string
	for _, n := range r.nodes {
		if run, _ := r.admits(n); run {
			nodes = append(nodes, n.Name)
		}
	}
	unavailable, surge := r.bounds(len(nodes))
	if surge > 0 {
		r.out.Do(r.surge(nodes, surge)...)
	} else {
		r.out.Do(r.replace(nodes, unavailable)...)
	}
}

// replace deletes old pods: those that do not serve anyway, and as many others as may be missing.
func (r *round) replace(nodes []string, budget int) []loop.Effect {
	var broken, serving []*corev1.Pod
	for _, node := range nodes {
		fresh, old := r.pair(node)
		switch {
		case old != nil && r.available(old):
			serving = append(serving, old)
			continue
		case old != nil:
			broken = append(broken, old)
		case fresh != nil && r.available(fresh):
			continue
		}
		budget--
	}
	return remove(append(broken, serving[:min(len(serving), max(0, budget))]...)...)
}

// surge makes new pods beside the old ones, which go when their successors serve.
func (r *round) surge(nodes []string, budget int) []loop.Effect {
	var out []loop.Effect
	var waiting []string
	for _, node := range nodes {
		fresh, old := r.pair(node)
		switch {
		case old == nil:
		case fresh == nil && !r.available(old):
			out = append(out, r.create(node))
		case fresh == nil:
			waiting = append(waiting, node)
		case r.available(fresh) || !r.available(old):
			if r.available(fresh) {
				out = append(out, remove(old)...)
			}
		default:
			budget--
		}
	}
	for _, node := range waiting[:min(len(waiting), max(0, budget))] {
		out = append(out, r.create(node))
	}
	return out
}
