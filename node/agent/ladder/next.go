package ladder

import (
	"fmt"
	"time"

	v1 "k8s.io/api/core/v1"
)

// Next is the one thing to do now for the pod. It never waits for what is already possible, and it always
// answers: Wait where only time or news can help.
func Next(s Situation) Step {
	if step, some := s.exits(); some {
		return step
	}
	r := s.Record
	if r.Rejected != nil {
		return s.gone()
	}
	if r.Stop == nil {
		if step, stop := s.stop(); stop {
			return step
		}
		return s.up()
	}
	return s.down()
}

// exits finds an attempt that ended, or that the runtime has lost, and was not recorded yet.
func (s Situation) exits() (step Step, some bool) {
	if s.Blind {
		return step, false
	}
	each(s.Pod, func(c *v1.Container, _ class) {
		rec := s.Record.peek(c.Name)
		if some || !rec.Running() {
			return
		}
		if in, known := s.Instances[rec.ID]; !known || in.Exited {
			step, some = Step{Kind: Exited, Container: c.Name}, true
		}
	})
	return step, some
}

// stop tells whether the pod must go down from now on.
func (s Situation) stop() (Step, bool) {
	stop := func(reason, message string) (Step, bool) {
		return Step{Kind: Stopping, Reason: reason, Message: message}, true
	}
	switch {
	case s.Gone || s.Pod.DeletionTimestamp != nil:
		return stop(StopDeleted, "")
	case s.Evict != "":
		return stop(StopEvicted, s.Evict)
	case s.deadline() && !s.Now.Before(s.deadlineAt()):
		return stop(StopDeadline, "Pod was active on the node longer than the specified deadline")
	}
	return Step{}, false
}

func (s Situation) deadline() bool { return s.Pod.Spec.ActiveDeadlineSeconds != nil }

func (s Situation) deadlineAt() time.Time {
	return s.Record.StartTime.Add(time.Duration(*s.Pod.Spec.ActiveDeadlineSeconds) * time.Second)
}

// up is the next step of a pod that is to run.
func (s Situation) up() Step {
	step := s.climb()
	if step.Kind == Wait && s.deadline() {
		return sooner(step, Step{Kind: Wait, Until: s.deadlineAt()})
	}
	return step
}

func (s Situation) climb() Step {
	r := s.Record
	if !r.Admitted {
		return Step{Kind: Admit}
	}
	if t := r.Trouble; t != nil && s.Now.Before(t.Until()) {
		return Step{Kind: Wait, Until: t.turn(s.Now)}
	}
	switch {
	case !r.Connected:
		return Step{Kind: Connect}
	case !r.Open:
		return Step{Kind: Open}
	case !r.Fetched && s.hasImageVolumes():
		if s.busy(Fetch, "") {
			return Step{Kind: Wait}
		}
		return Step{Kind: Fetch}
	case !r.Mounted:
		return Step{Kind: Mount}
	}
	resize, waits := s.resize()
	if waits && resize.Kind != Wait {
		return resize
	}
	wait, done := s.initContainers()
	if waits {
		wait = sooner(wait, resize)
	}
	if done {
		return s.containers(wait)
	}
	if wait.Kind != Wait {
		return wait
	}
	return first(s.ephemeral(), wait)
}

func (s Situation) hasImageVolumes() bool {
	for _, v := range s.Pod.Spec.Volumes {
		if v.Image != nil {
			return true
		}
	}
	return false
}

// initContainers brings up the init containers in order. done: regular containers may start.
func (s Situation) initContainers() (wait Step, done bool) {
	initialized := s.initialized()
	for i := range s.Pod.Spec.InitContainers {
		c := &s.Pod.Spec.InitContainers[i]
		rec := s.Record.peek(c.Name)
		if !IsSidecar(c) {
			if !rec.Again && (initialized || rec.Exit != nil && rec.Exit.Code == 0) {
				continue
			}
			if !rec.Again && rec.Exit != nil && !s.restarts(c, rec) {
				return Step{Kind: Stopping, Reason: StopCompleted}, false
			}
			return s.bring(c).step, false
		}
		b := s.bring(c)
		if b.step.Kind != Wait {
			return b.step, false
		}
		if !initialized && !s.started(c) {
			return b.step, false
		}
		wait = sooner(wait, b.step)
	}
	return wait, true
}

// containers brings up the regular containers in order. One that cannot start now does not hold up the others,
// but one that is just starting does: its postStart hook may be there to make the others wait.
func (s Situation) containers(wait Step) Step {
	alive := false
	for i := range s.Pod.Spec.Containers {
		b := s.bring(&s.Pod.Spec.Containers[i])
		if b.step.Kind != Wait || b.holds {
			return b.step
		}
		alive = alive || !b.done
		wait = sooner(wait, b.step)
	}
	if !alive {
		return Step{Kind: Stopping, Reason: StopCompleted}
	}
	return first(s.ephemeral(), wait)
}

func (s Situation) ephemeral() Step {
	wait := Step{Kind: Wait}
	for i := range s.Pod.Spec.EphemeralContainers {
		c := v1.Container(s.Pod.Spec.EphemeralContainers[i].EphemeralContainerCommon)
		if rec := s.Record.peek(c.Name); rec.ID != "" {
			continue // runs once
		}
		b := s.bring(&c)
		if b.step.Kind != Wait {
			return b.step
		}
		wait = sooner(wait, b.step)
	}
	return wait
}

// brought is what bringing up one container needs next. done: it ended and stays so. holds: containers after it
// must wait.
type brought struct {
	step  Step
	done  bool
	holds bool
}

func (s Situation) bring(c *v1.Container) brought {
	rec := s.Record.peek(c.Name)
	if rec.Running() {
		return s.keep(c, rec)
	}
	if rec.Exit != nil && !rec.Again {
		if !s.restarts(c, rec) {
			return brought{step: Step{Kind: Wait}, done: true}
		}
		if until, backing := rec.backingOff(s.Now); backing {
			return brought{step: Step{Kind: Wait, Until: until}}
		}
	}
	if s.busy(Pull, c.Name) {
		return brought{step: Step{Kind: Wait}, holds: true}
	}
	if t := rec.Trouble; t != nil && s.Now.Before(t.Until()) {
		return brought{step: Step{Kind: Wait, Until: t.turn(s.Now)}}
	}
	if !rec.Pulled {
		return brought{step: Step{Kind: Pull, Container: c.Name}}
	}
	return brought{step: Step{Kind: Start, Container: c.Name}}
}

// keep looks after a running attempt: its postStart hook, its probes, its image.
func (s Situation) keep(c *v1.Container, rec *Container) brought {
	if rec.Kill != nil {
		return brought{step: s.kill(c, rec, rec.Kill.At.Add(rec.Kill.Grace), true)}
	}
	doom := func(reason, message string, p *v1.Probe) brought {
		grace := s.grace()
		if p != nil && p.TerminationGracePeriodSeconds != nil {
			grace = time.Duration(*p.TerminationGracePeriodSeconds) * time.Second
		}
		return brought{step: Step{Kind: Doom, Container: c.Name, Reason: reason, Message: message, Grace: grace}}
	}
	if rec.Image != c.Image {
		return doom("Changed", fmt.Sprintf("Container %s definition changed, will be restarted", c.Name), nil)
	}
	if b, some := s.adapt(c, rec); some {
		return b
	}
	if hasPostStart(c) && !rec.Hooked {
		if s.busy(PostStart, c.Name) {
			return brought{step: Step{Kind: Wait}, holds: true}
		}
		return brought{step: Step{Kind: PostStart, Container: c.Name}}
	}
	v := s.Probes[c.Name]
	if c.StartupProbe != nil && v.Startup == Failure {
		return doom("Unhealthy", fmt.Sprintf("Container %s failed startup probe, will be restarted", c.Name), c.StartupProbe)
	}
	if c.LivenessProbe != nil && v.Liveness == Failure {
		return doom("Unhealthy", fmt.Sprintf("Container %s failed liveness probe, will be restarted", c.Name), c.LivenessProbe)
	}
	return brought{step: Step{Kind: Wait}}
}

func hasPostStart(c *v1.Container) bool { return c.Lifecycle != nil && c.Lifecycle.PostStart != nil }
func hasPreStop(c *v1.Container) bool   { return c.Lifecycle != nil && c.Lifecycle.PreStop != nil }

// started: the attempt runs, its postStart hook is done and its startup probe, if any, has succeeded once.
func (s Situation) started(c *v1.Container) bool {
	rec := s.Record.peek(c.Name)
	if !rec.Running() || hasPostStart(c) && !rec.Hooked {
		return false
	}
	return c.StartupProbe == nil || rec.Passed || s.Probes[c.Name].Startup == Success
}
