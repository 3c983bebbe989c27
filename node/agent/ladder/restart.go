package ladder

import (
	"slices"
	"time"

	v1 "k8s.io/api/core/v1"
)

// Pauses before a restart and before another try at an image, as the kubelet's.
const (
	firstBackoff = 10 * time.Second
	maxBackoff   = 5 * time.Minute
	// forgetBackoff: an attempt that ran this long starts the pauses afresh.
	forgetBackoff = 10 * time.Minute
	// fresh is how long a failed pull shows as ErrImagePull before it shows as ImagePullBackOff.
	fresh = 3 * time.Second
)

// restarts tells whether an ended attempt of a container is followed by another.
func (s Situation) restarts(c *v1.Container, rec *Container) bool {
	if isEphemeral(s.Pod, c.Name) {
		return false
	}
	if rec.Exit.Forced && rec.Image != c.Image {
		return true // a new image replaces the old container under any policy
	}
	if rec.Exit.Forced && effectivePolicy(c, s.Pod) != v1.RestartPolicyNever {
		return true
	}
	return ShouldRestart(c, s.Pod, rec.Exit.Code)
}

func isEphemeral(pod *v1.Pod, name string) bool {
	for i := range pod.Spec.EphemeralContainers {
		if pod.Spec.EphemeralContainers[i].Name == name {
			return true
		}
	}
	return false
}

func effectivePolicy(c *v1.Container, pod *v1.Pod) v1.RestartPolicy {
	if c.RestartPolicy != nil {
		return v1.RestartPolicy(*c.RestartPolicy)
	}
	if pod.Spec.RestartPolicy == v1.RestartPolicyAlways && isRegularInit(pod, c.Name) {
		return v1.RestartPolicyOnFailure
	}
	return pod.Spec.RestartPolicy
}

func isRegularInit(pod *v1.Pod, name string) bool {
	for i := range pod.Spec.InitContainers {
		if c := &pod.Spec.InitContainers[i]; c.Name == name {
			return !IsSidecar(c)
		}
	}
	return false
}

// ShouldRestart tells what the restart rules of the container, its own policy and the pod's say about an exit
// code.
func ShouldRestart(c *v1.Container, pod *v1.Pod, code int32) bool {
	if c.RestartPolicy != nil {
		for _, rule := range c.RestartPolicyRules {
			if rule.ExitCodes == nil || rule.Action != v1.ContainerRestartRuleActionRestart {
				continue
			}
			in := slices.Contains(rule.ExitCodes.Values, code)
			if in == (rule.ExitCodes.Operator == v1.ContainerRestartRuleOnExitCodesOpIn) {
				return true
			}
		}
	}
	switch effectivePolicy(c, pod) {
	case v1.RestartPolicyNever:
		return false
	case v1.RestartPolicyOnFailure:
		return code != 0
	}
	return true
}

// backingOff tells until when the next attempt must wait. The first restart is immediate.
func (c *Container) backingOff(now time.Time) (time.Time, bool) {
	if !c.paused() {
		return time.Time{}, false
	}
	until := c.Exit.FinishedAt.Add(c.Backoff)
	return until, now.Before(until)
}

// paused: the next attempt comes, or came, after a pause. Until it begins the status says so.
func (c *Container) paused() bool {
	return c.Exit != nil && c.Backoff != 0 && c.Exit.FinishedAt.Sub(c.BackoffSet) <= forgetBackoff
}

// raiseBackoff notes a restart: the next one waits longer.
func (c *Container) raiseBackoff(now time.Time) {
	if c.Backoff == 0 || c.Exit.FinishedAt.Sub(c.BackoffSet) > forgetBackoff {
		c.Backoff = firstBackoff
	} else {
		c.Backoff = min(2*c.Backoff, maxBackoff)
	}
	c.BackoffSet = now
}

// pullFailed tells whether a reason is one of a pull that may succeed later. They share their pauses.
func pullFailed(reason string) bool {
	return reason == ReasonErrImagePull || reason == ReasonRegistryUnavailable
}

// retry makes or deepens a trouble.
func retry(prev *Trouble, reason, message string, now time.Time, first, most time.Duration) *Trouble {
	t := &Trouble{Reason: reason, Message: message, At: now, Delay: first}
	if prev != nil && (prev.Reason == reason || pullFailed(prev.Reason) && pullFailed(reason)) && now.Sub(prev.At) <= forgetBackoff {
		t.Delay = min(2*prev.Delay, most)
	}
	return t
}
