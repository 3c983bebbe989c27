package ladder

import (
	"fmt"
	"time"

	v1 "k8s.io/api/core/v1"
)

// Outcome is what performing a step came to. Err nil: it is done.
type Outcome struct {
	Err error
	// Reason is the waiting reason that a failure shows as: ErrImagePull, CreateContainerConfigError, ...
	Reason string

	Reject *Rejection // Admit: the node refuses the pod
	// Allocated is what the node sets aside (Admit, Allocate), by container. Pending: Allocate was refused.
	Allocated map[string]v1.ResourceRequirements
	Pending   *Pending
	NetNS     string            // Connect
	IPs       []string          // Connect
	ImageID   string            // Pull
	Fetched   bool              // Pull: it was not here before
	Image     string            // Start: the reference in the spec
	ID        string            // Start
	Attempt   int               // Start
	User      *v1.ContainerUser // Start
	Instance  *Instance         // Start: what runs. Exited: how it ended; nil where the runtime has lost it
	// Lost: Start: the image is here no more, and must be got again.
	Lost bool
	// Ended: Start: the container was made and could not be started; it counts as an attempt that failed.
	Ended bool
	// Exit message: what the container itself said (termination message).
	Message string
}

// Reasons of ended attempts and of troubles that the agent and the status share.
const (
	ReasonCompleted     = "Completed"
	ReasonError         = "Error"
	ReasonOOMKilled     = "OOMKilled"
	ReasonStartError    = "StartError"
	ReasonStatusUnknown = "ContainerStatusUnknown"

	ReasonErrImagePull        = "ErrImagePull"
	ReasonRegistryUnavailable = "RegistryUnavailable"
	ReasonImagePullBackOff    = "ImagePullBackOff"
	ReasonConfigError         = "CreateContainerConfigError"
	ReasonCrashLoop           = "CrashLoopBackOff"
)

// Did moves the record by what a step came to. It is the only writer of the ladder's part of the record.
func (r *Record) Did(step Step, o Outcome, now time.Time) {
	if step.Container != "" {
		r.didContainer(step, o, now)
		return
	}
	if o.Err != nil {
		reason := o.Reason
		if reason == "" {
			reason = "Failed" + string(step.Kind)
		}
		first, most := time.Second, 30*time.Second
		if step.Kind == Fetch {
			first, most = firstBackoff, maxBackoff
		}
		r.Trouble = retry(r.Trouble, reason, o.Err.Error(), now, first, most)
		return
	}
	r.Trouble = nil
	switch step.Kind {
	case Admit:
		r.Admitted, r.Rejected = o.Reject == nil, o.Reject
		r.allocated(o.Allocated)
	case Allocate:
		r.Resize = o.Pending
		r.allocated(o.Allocated)
	case Connect:
		r.Connected, r.NetNS, r.IPs = true, o.NetNS, o.IPs
	case Open:
		r.Open = true
	case Fetch:
		r.Fetched = true
	case Mount:
		r.Mounted = true
	case Stopping:
		r.Stop = &Stop{Reason: step.Reason, Message: step.Message, At: now}
	case Teardown:
		r.Connected, r.Open, r.Mounted, r.Down = false, false, false, true
	case Finish:
		r.Stopped = true
	}
}

func (r *Record) didContainer(step Step, o Outcome, now time.Time) {
	c := r.Container(step.Container)
	switch step.Kind {
	case Pull:
		if o.Err != nil {
			c.Trouble = retry(c.Trouble, o.Reason, o.Err.Error(), now, firstBackoff, maxBackoff)
			return
		}
		c.Pulled, c.Fetched, c.ImageID, c.Trouble = true, o.Fetched, o.ImageID, nil
	case Start:
		c.didStart(o, now)
	case PostStart:
		if o.Err == nil {
			c.Hooked = true
		} else if c.Kill == nil && c.Running() {
			c.Kill = &Kill{Reason: "FailedPostStartHook", Message: o.Err.Error(), At: now, Grace: step.Grace}
		}
	case Exited:
		c.Exit = exitOf(c, o, now)
		c.Kill, c.Ready, c.Pulled = nil, false, false
	case Resize:
		if o.Err != nil {
			c.ResizeTrouble = retry(c.ResizeTrouble, v1.PodReasonError, o.Err.Error(), now, time.Second, 30*time.Second)
			return
		}
		c.ResizeTrouble, c.Actual = nil, c.Allocated.DeepCopy()
	case Doom:
		c.Kill = &Kill{Reason: step.Reason, Message: step.Message, At: now, Grace: step.Grace}
	case PreStop:
		if c.Kill != nil {
			c.Kill.Hooked = true // a failed hook does not keep a container alive
		}
	case Term:
		if c.Kill != nil {
			c.Kill.TermAt = now
		}
	case KillNow:
		if c.Kill != nil {
			c.Kill.KillAt = now
		}
	}
}

func (c *Container) didStart(o Outcome, now time.Time) {
	if o.Lost { // as often as that happens, which is when somebody removes images: at once, then with pauses
		if c.Pulled = false; c.Trouble == nil {
			return
		}
	}
	if o.Err != nil && !o.Ended {
		c.Trouble = retry(c.Trouble, o.Reason, o.Err.Error(), now, firstBackoff, firstBackoff)
		return
	}
	if c.Exit != nil {
		c.raiseBackoff(now)
		c.Last = c.Exit
	}
	c.ID, c.Attempt, c.Image, c.User = o.ID, o.Attempt, o.Image, o.User
	c.Exit, c.Trouble, c.Kill, c.ResizeTrouble = nil, nil, nil, nil
	c.Actual = c.Allocated.DeepCopy()
	c.Hooked, c.Passed, c.Ready, c.Again = false, false, false, false
	c.StartedAt = now
	if o.Instance != nil && !o.Instance.StartedAt.IsZero() {
		c.StartedAt = o.Instance.StartedAt
	}
	if o.Err != nil {
		c.StartedAt, c.Pulled = time.Time{}, false
		c.Exit = &Exit{ID: o.ID, Code: 128, Reason: ReasonStartError, Message: o.Err.Error(), FinishedAt: now}
	}
}

// exitOf is how the current attempt ended.
func exitOf(c *Container, o Outcome, now time.Time) *Exit {
	forced := c.Kill != nil && c.Kill.Reason != "Killing"
	in := o.Instance
	if in == nil {
		return &Exit{ID: c.ID, Code: 137, Reason: ReasonStatusUnknown, StartedAt: c.StartedAt, FinishedAt: now, Forced: forced,
			Message: "The container could not be located on the node: it ended while nobody watched"}
	}
	e := &Exit{ID: c.ID, Code: in.ExitCode, Signal: in.Signal, Message: o.Message, StartedAt: in.StartedAt, FinishedAt: in.FinishedAt, Forced: forced}
	if e.StartedAt.IsZero() {
		e.StartedAt = c.StartedAt
	}
	if e.FinishedAt.IsZero() {
		e.FinishedAt = now
	}
	switch {
	case in.OOMKilled:
		e.Reason = ReasonOOMKilled
	case in.ExitCode == 0:
		e.Reason = ReasonCompleted
	default:
		e.Reason = ReasonError
	}
	if e.Message == "" {
		e.Message = in.Message
	}
	return e
}

// NextAttempt is the attempt that a Start begins.
func (c *Container) NextAttempt() int {
	if c.ID == "" {
		return 0
	}
	return c.Attempt + 1
}

// Judge takes over the probes' verdicts that outlive the agent. It reports whether something changed.
func (r *Record) Judge(name string, v Verdicts) bool {
	c := r.Containers[name]
	if c == nil || !c.Running() {
		return false
	}
	was := *c
	if v.Startup == Success {
		c.Passed = true
	}
	if v.Readiness != Unknown {
		c.Ready = v.Readiness == Success
	}
	return was.Passed != c.Passed || was.Ready != c.Ready
}

// Nudge lets the steps that wait for configuration be tried at once: something they need may have come.
func (r *Record) Nudge(now time.Time) bool {
	nudged := false
	hurry := func(t *Trouble) {
		if t != nil && now.Before(t.Until()) {
			t.Delay = now.Sub(t.At)
			nudged = true
		}
	}
	hurry(r.Trouble)
	for _, c := range r.Containers { // order does not matter: each has its own trouble
		if c.Trouble != nil && c.Trouble.Reason == ReasonConfigError {
			hurry(c.Trouble)
		}
	}
	return nudged
}

// format of a pod in messages, as the kubelet's.
func (r *Record) String() string { return fmt.Sprintf("%s_%s(%s)", r.Name, r.Namespace, r.UID) }

// Rebooted takes note that the machine was restarted: no container runs any more, and nothing is mounted or
// connected. A pod that was not going down starts over, its init containers included.
func (r *Record) Rebooted(pod *v1.Pod) {
	r.Connected, r.Open, r.Mounted, r.NetNS = false, false, false, ""
	for i := range pod.Spec.InitContainers {
		c := r.Containers[pod.Spec.InitContainers[i].Name]
		if r.Stop == nil && c != nil && !IsSidecar(&pod.Spec.InitContainers[i]) {
			c.Again = true
		}
	}
}
