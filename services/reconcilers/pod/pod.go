package pod

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/services/loop"
	"github.com/orlog-io/orlog/services/reconcilers/replica"
)

// Collector decides about pods that are over.
type Collector struct{}

// Spec declares what the reconciler reads and writes.
func (Collector) Spec() loop.Spec {
	return loop.Spec{
		Name:     "pod",
		Identity: loop.ServiceAccount("pod-garbage-collector"),
		Inputs: []loop.Input{
			{Resource: "pods", Keys: ofPod},
			{Resource: "nodes", Keys: ofNode},
		},
		Outputs: []loop.Output{{Resource: "pods", Shared: true}},
		Workers: 8,
	}
}

func ofPod(v *loop.View, c loop.Change) []events.Key {
	if p := loop.Pods.Of(v, c.Next); p == nil || (p.DeletionTimestamp == nil && !nodeGone(v, p)) {
		return nil
	}
	return []events.Key{c.Next.Key}
}

// ofNode makes the pods of a node that is gone dirty.
func ofNode(v *loop.View, c loop.Change) []events.Key {
	if !c.Gone() {
		return nil
	}
	var out []events.Key
	for _, p := range loop.Pods.List(v, "") {
		if p.Spec.NodeName == c.Next.Key.Name {
			out = append(out, loop.Pods.KeyOf(p))
		}
	}
	return out
}

func nodeGone(v *loop.View, p *corev1.Pod) bool {
	return p.Spec.NodeName != "" && loop.Nodes.Get(v, "", p.Spec.NodeName) == nil
}

// Decide decides about one pod.
func (Collector) Decide(v *loop.View, key events.Key, _ time.Time) (d loop.Decision) {
	p := loop.Pods.At(v, key)
	if p == nil {
		return d
	}
	deleting := p.DeletionTimestamp != nil
	if p.DeletionGracePeriodSeconds != nil && *p.DeletionGracePeriodSeconds == 0 && deleting && len(p.Finalizers) > 0 {
		return d // it has been said already: only its finalizers keep it
	}
	if !nodeGone(v, p) && !(deleting && (p.Spec.NodeName == "" || stopped(p))) {
		return d
	}
	e := loop.Pods.Delete(p)
	e.GracePeriod = new(int64(0))
	d.Do(e)
	return d
}

// stopped says whether the node has reported that nothing of the pod runs any more.
func stopped(p *corev1.Pod) bool {
	running := func(s corev1.ContainerStatus) bool { return s.State.Running != nil }
	return replica.Finished(p) && !slices.ContainsFunc(p.Status.ContainerStatuses, running) &&
		!slices.ContainsFunc(p.Status.InitContainerStatuses, running) && !slices.ContainsFunc(p.Status.EphemeralContainerStatuses, running)
}
