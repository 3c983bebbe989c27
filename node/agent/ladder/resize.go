package ladder

import (
	"time"

	v1 "k8s.io/api/core/v1"
)

// Resizing a running pod goes in two steps, as in Kubernetes: the node first allocates what the spec asks for, if it
// has it (one step for the whole pod), then each container gets it, in place or by a restart, as its resize policy says.

// Reasons of the condition PodResizePending.
const (
	ResizeDeferred   = v1.PodReasonDeferred
	ResizeInfeasible = v1.PodReasonInfeasible
)

// deferredRetry is how often a resize is tried for which there is no room.
const deferredRetry = 5 * time.Second

// resize is the allocation that the pod waits for; Wait where it has none to make now.
func (s Situation) resize() (step Step, waits bool) {
	r := s.Record
	wanted := false
	for _, c := range s.resizable() {
		if rec := r.peek(c.Name); rec.Allocated != nil && !sameResources(*rec.Allocated, c.Resources) {
			wanted = true
		}
	}
	switch {
	case !wanted && r.Resize == nil:
		return step, false
	case wanted && r.Resize != nil && r.Resize.Generation == s.Pod.Generation:
		if r.Resize.Reason == ResizeInfeasible {
			return step, false
		}
		if until := r.Resize.At.Add(deferredRetry); s.Now.Before(until) {
			return Step{Kind: Wait, Until: until}, true
		}
	}
	return Step{Kind: Allocate}, true
}

func (s Situation) resizable() []*v1.Container {
	var out []*v1.Container
	for i := range s.Pod.Spec.Containers {
		out = append(out, &s.Pod.Spec.Containers[i])
	}
	for i := range s.Pod.Spec.InitContainers {
		if IsSidecar(&s.Pod.Spec.InitContainers[i]) {
			out = append(out, &s.Pod.Spec.InitContainers[i])
		}
	}
	return out
}

// sameResources compares what can be resized.
func sameResources(a, b v1.ResourceRequirements) bool {
	return len(changedResources(a, b)) == 0
}

func changedResources(a, b v1.ResourceRequirements) (out []v1.ResourceName) {
	for _, name := range []v1.ResourceName{v1.ResourceCPU, v1.ResourceMemory} {
		same := func(p, q v1.ResourceList) bool {
			x, hasX := p[name]
			y, hasY := q[name]
			return hasX == hasY && x.Cmp(y) == 0
		}
		if !same(a.Requests, b.Requests) || !same(a.Limits, b.Limits) {
			out = append(out, name)
		}
	}
	return out
}

// adapt is what a running container needs to get what was allocated to it.
func (s Situation) adapt(c *v1.Container, rec *Container) (brought, bool) {
	if rec.Allocated == nil || rec.Actual == nil {
		return brought{}, false
	}
	changed := changedResources(*rec.Actual, *rec.Allocated)
	if len(changed) == 0 {
		return brought{}, false
	}
	for _, p := range c.ResizePolicy {
		for _, name := range changed {
			if p.ResourceName == name && p.RestartPolicy == v1.RestartContainer {
				return brought{step: Step{Kind: Doom, Container: c.Name, Reason: "Resize", Grace: s.grace(),
					Message: "Container " + c.Name + " resize requires restart"}}, true
			}
		}
	}
	if t := rec.ResizeTrouble; t != nil && s.Now.Before(t.Until()) {
		return brought{step: Step{Kind: Wait, Until: t.Until()}}, true
	}
	return brought{step: Step{Kind: Resize, Container: c.Name}}, true
}

// allocated notes what the node has set aside for each container.
func (r *Record) allocated(a map[string]v1.ResourceRequirements) {
	for name, res := range a { // order does not matter: each name is another container
		r.Container(name).Allocated = res.DeepCopy()
	}
}

// resizeConditions are those about a resize that is not complete.
func (s Situation) resizeConditions() (out []v1.PodCondition) {
	if p := s.Record.Resize; p != nil {
		out = append(out, v1.PodCondition{Type: v1.PodResizePending, Status: v1.ConditionTrue, Reason: p.Reason, Message: p.Message})
	}
	for _, c := range s.resizable() {
		rec := s.Record.peek(c.Name)
		if rec.Allocated == nil || rec.Actual == nil || !rec.Running() || sameResources(*rec.Actual, *rec.Allocated) {
			continue
		}
		progress := v1.PodCondition{Type: v1.PodResizeInProgress, Status: v1.ConditionTrue}
		if rec.ResizeTrouble != nil {
			progress.Reason, progress.Message = v1.PodReasonError, rec.ResizeTrouble.Message
		}
		return append(out, progress)
	}
	return out
}
