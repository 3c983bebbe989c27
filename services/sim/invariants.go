package sim

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/services/loop"
	"github.com/orlog-io/orlog/services/reconcilers/replica"
)

// rules look at each event as it is appended.
type rules struct {
	w        *world
	cache    *loop.Cache
	families map[types.UID]*family
}

func newRules(w *world) *rules {
	return &rules{w: w, cache: loop.NewCache(0), families: map[types.UID]*family{}}
}

// see checks what must hold after every event.
func (r *rules) see(e events.Event, prev, next events.State) {
	r.caused(e)
	v := r.w.view()
	if loop.Pods.Is(e.Subject.Key) {
		was, is := loop.Pods.Of(v, prev), loop.Pods.Of(v, next)
		r.boundOnce(e, was, is)
		r.oneController(is)
		if is != nil && is.Spec.NodeName != "" && (was == nil || was.Spec.NodeName == "") {
			r.roomOn(v, is.Spec.NodeName)
		}
	}
	r.seeFamily(v, e, prev, next)
	if err := v.Err(); err != nil {
		r.w.fail(Sound, "event %d leaves what cannot be read: %v", e.Sequence, err)
	}
}

// caused: whatever the control plane does names what led to it.
func (r *rules) caused(e events.Event) {
	if !strings.HasPrefix(e.Actor, "system:serviceaccount:") && e.Actor != "system:kube-scheduler" {
		return
	}
	if e.Cause == 0 || e.Cause >= e.Sequence || e.Correlation == 0 || e.Correlation > e.Cause {
		r.w.fail(Caused, "event %d %s about %s by %s names cause %d and correlation %d", e.Sequence, e.Type, e.Subject.Key, e.Actor, e.Cause, e.Correlation)
	}
}

// boundOnce: a pod that has a node keeps it.
func (r *rules) boundOnce(e events.Event, was, is *corev1.Pod) {
	if was != nil && is != nil && was.UID == is.UID && was.Spec.NodeName != "" && was.Spec.NodeName != is.Spec.NodeName {
		r.w.fail(BoundOnce, "event %d moves pod %s from %s to %q", e.Sequence, is.Name, was.Spec.NodeName, is.Spec.NodeName)
	}
}

// runsOnce: a pod runs on one machine.
func (r *rules) runsOnce(on *node, uid string) {
	for _, n := range r.w.nodes {
		if n != on && slices.ContainsFunc(n.pods, func(p *podRun) bool { return p.uid == uid }) {
			r.w.fail(BoundOnce, "pod %s runs on %s and on %s", uid, n.name, on.name)
		}
	}
}

func (r *rules) oneController(p *corev1.Pod) {
	if p == nil {
		return
	}
	n := 0
	for _, ref := range p.OwnerReferences {
		if ref.Controller != nil && *ref.Controller {
			n++
		}
	}
	if n > 1 {
		r.w.fail(OneController, "pod %s has %d controllers", p.Name, n)
	}
}

// roomOn: what is bound to a node fits on it.
func (r *rules) roomOn(v *loop.View, name string) {
	n := loop.Nodes.Get(v, "", name)
	if n == nil {
		return // the Node object was deleted while the binding was under way: the pod is collected
	}
	var cpu, pods int64
	for _, p := range loop.Pods.List(v, "") {
		if p.Spec.NodeName == name && !replica.Finished(p) {
			cpu += p.Spec.Containers[0].Resources.Requests.Cpu().MilliValue()
			pods++
		}
	}
	if room := n.Status.Allocatable; cpu > room.Cpu().MilliValue() || pods > room.Pods().Value() {
		r.w.fail(NoOvercommit, "%s is overcommitted: %d pods ask for %dm of %s cores", name, pods, cpu, room.Cpu())
	}
}
