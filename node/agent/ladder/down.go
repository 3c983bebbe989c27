package ladder

import (
	"time"

	v1 "k8s.io/api/core/v1"
)

// minTerm is the least time between SIGTERM and SIGKILL, however little grace is left.
const minTerm = 2 * time.Second

// down is the next step of a pod that stops. All containers are stopped at once, except that the stop signal
// reaches a sidecar only after the regular containers and the sidecars after it have ended.
func (s Situation) down() Step {
	deadline := s.Record.Stop.At.Add(s.grace())
	running := false
	wait := Step{}
	for _, c := range s.stopOrder() {
		rec := s.Record.peek(c.Name)
		if !rec.Running() {
			continue
		}
		if rec.Kill == nil {
			return Step{Kind: Doom, Container: c.Name, Reason: "Killing", Message: "Stopping container " + c.Name, Grace: s.grace()}
		}
		step := s.kill(c, rec, deadline, !running || !isSidecarOf(s.Pod, c.Name))
		if step.Kind != Wait {
			return step
		}
		running = true
		wait = sooner(wait, step)
	}
	if running {
		return wait
	}
	return s.gone()
}

// gone takes away what a pod without running containers still holds.
func (s Situation) gone() Step {
	r := s.Record
	deleted := s.Gone || s.Pod.DeletionTimestamp != nil
	switch {
	case r.Connected || r.Open || r.Mounted:
		if t := r.Trouble; t != nil && s.Now.Before(t.Until()) {
			return Step{Kind: Wait, Until: t.Until()}
		}
		return Step{Kind: Teardown}
	case deleted && !r.Stopped && !s.Gone:
		return Step{Kind: Finish}
	case s.Gone:
		return Step{Kind: Forget}
	}
	return Step{Kind: Wait}
}

// stopOrder is: ephemeral, regular, then sidecars and init containers from the last to the first.
func (s Situation) stopOrder() []*v1.Container {
	var out []*v1.Container
	for i := range s.Pod.Spec.EphemeralContainers {
		c := v1.Container(s.Pod.Spec.EphemeralContainers[i].EphemeralContainerCommon)
		out = append(out, &c)
	}
	for i := range s.Pod.Spec.Containers {
		out = append(out, &s.Pod.Spec.Containers[i])
	}
	for i := len(s.Pod.Spec.InitContainers) - 1; i >= 0; i-- {
		out = append(out, &s.Pod.Spec.InitContainers[i])
	}
	return out
}

func isSidecarOf(pod *v1.Pod, name string) bool {
	for i := range pod.Spec.InitContainers {
		if pod.Spec.InitContainers[i].Name == name {
			return IsSidecar(&pod.Spec.InitContainers[i])
		}
	}
	return false
}

// kill walks one attempt from the preStop hook to SIGKILL. turn: it may be signalled before the deadline.
func (s Situation) kill(c *v1.Container, rec *Container, deadline time.Time, turn bool) Step {
	k := rec.Kill
	over := !s.Now.Before(deadline)
	if hasPreStop(c) && !k.Hooked && !over {
		if !s.busy(PreStop, c.Name) {
			return Step{Kind: PreStop, Container: c.Name, Grace: deadline.Sub(s.Now)}
		}
		return Step{Kind: Wait, Until: deadline}
	}
	if k.TermAt.IsZero() {
		if turn || over {
			return Step{Kind: Term, Container: c.Name}
		}
		return Step{Kind: Wait, Until: deadline}
	}
	if least := k.TermAt.Add(minTerm); least.After(deadline) {
		deadline = least
	}
	if s.Now.Before(deadline) {
		return Step{Kind: Wait, Until: deadline}
	}
	// SIGKILL can get lost only with its process; it is repeated slowly until the exit is seen.
	if k.KillAt.IsZero() || !s.Now.Before(k.KillAt.Add(minTerm)) {
		return Step{Kind: KillNow, Container: c.Name}
	}
	return Step{Kind: Wait, Until: k.KillAt.Add(minTerm)}
}
