package ladder

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const second = time.Second

func ptr[T any](v T) *T { return &v }

// EqualJSON compares two values by their JSON.
func EqualJSON(a, b any) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}

func (s Situation) containerStatuses(st *v1.PodStatus) {
	each(s.Pod, func(c *v1.Container, k class) {
		cs := s.containerStatus(c, k)
		switch k {
		case initClass, sidecarClass:
			st.InitContainerStatuses = append(st.InitContainerStatuses, cs)
		case regularClass:
			st.ContainerStatuses = append(st.ContainerStatuses, cs)
		default:
			st.EphemeralContainerStatuses = append(st.EphemeralContainerStatuses, cs)
		}
	})
}

func (s Situation) containerStatus(c *v1.Container, k class) v1.ContainerStatus {
	rec := s.Record.peek(c.Name)
	cs := v1.ContainerStatus{Name: c.Name, Image: c.Image, RestartCount: int32(rec.Attempt)}
	if rec.ID != "" || rec.Fetched {
		cs.ImageID = rec.ImageID
	}
	if rec.Image != "" && rec.Running() {
		cs.Image = rec.Image
	}
	if rec.ID != "" {
		cs.ContainerID = IDPrefix + rec.ID
		cs.Resources, cs.AllocatedResources = c.Resources.DeepCopy(), c.Resources.Requests.DeepCopy()
		if rec.Actual != nil && rec.Allocated != nil {
			cs.Resources, cs.AllocatedResources = rec.Actual.DeepCopy(), rec.Allocated.Requests.DeepCopy()
		}
		cs.VolumeMounts = mountStatuses(c)
		cs.User = rec.User.DeepCopy()
	}
	if rec.Last != nil {
		cs.LastTerminationState.Terminated = rec.Last.state()
	}
	if rec.ID != "" || s.Record.Admitted {
		started := s.started(c)
		cs.Started = &started
	}
	switch {
	case rec.Running():
		cs.State.Running = &v1.ContainerStateRunning{StartedAt: at(rec.StartedAt)}
		cs.Ready = k != initClass && k != ephemeralClass && *cs.Started && s.ready(c, rec)
	case rec.Exit != nil:
		s.endedStatus(c, k, rec, &cs)
	case s.terminal() && s.counted(c, k):
		cs.State.Terminated = &v1.ContainerStateTerminated{ExitCode: 137, Reason: ReasonStatusUnknown,
			Message: "The container could not be located when the pod was terminated"}
	default:
		cs.State.Waiting = s.waiting(c, k, rec)
	}
	return cs
}

func mountStatuses(c *v1.Container) []v1.VolumeMountStatus {
	var out []v1.VolumeMountStatus
	for _, m := range c.VolumeMounts {
		st := v1.VolumeMountStatus{Name: m.Name, MountPath: m.MountPath, ReadOnly: m.ReadOnly}
		if m.ReadOnly {
			mode := v1.RecursiveReadOnlyDisabled
			if m.RecursiveReadOnly != nil && *m.RecursiveReadOnly != v1.RecursiveReadOnlyDisabled {
				mode = v1.RecursiveReadOnlyEnabled
			}
			st.RecursiveReadOnly = &mode
		}
		out = append(out, st)
	}
	return out
}

// counted tells whether a container that never ran belongs to the pod's failure: its turn had come when the pod was
// stopped. Those after it just wait for ever.
func (s Situation) counted(c *v1.Container, k class) bool {
	inits := s.Pod.Spec.InitContainers
	switch k {
	case regularClass:
		if len(inits) == 0 || s.initialized() {
			return true
		}
		last := s.Record.peek(inits[len(inits)-1].Name)
		return last.Exit != nil && last.Exit.Code == 0
	case initClass, sidecarClass:
		for i := len(inits) - 1; i >= 0; i-- {
			if i == 0 || s.Record.peek(inits[i].Name).ID != "" {
				return c.Name == inits[i].Name
			}
			if c.Name == inits[i].Name {
				return false
			}
		}
	}
	return false
}

// ready: without a readiness probe, a started container is.
func (s Situation) ready(c *v1.Container, rec *Container) bool {
	if c.ReadinessProbe == nil {
		return true
	}
	switch s.Probes[c.Name].Readiness {
	case Success:
		return true
	case Failure:
		return false
	}
	return rec.Ready
}

// endedStatus shows an ended attempt: terminated, or waiting for the next attempt with the end as last state.
func (s Situation) endedStatus(c *v1.Container, k class, rec *Container, cs *v1.ContainerStatus) {
	exit := rec.Exit.state()
	cs.Ready = k == initClass && rec.Exit.Code == 0
	if s.Record.Stop != nil || !s.restarts(c, rec) || k == initClass && rec.Exit.Code == 0 {
		cs.State.Terminated = exit
		return
	}
	if rec.paused() {
		cs.State.Waiting = &v1.ContainerStateWaiting{Reason: ReasonCrashLoop,
			Message: fmt.Sprintf("back-off %s restarting failed container=%s pod=%s", rec.Backoff, c.Name, s.Record)}
		cs.LastTerminationState.Terminated = exit
		return
	}
	if rec.Trouble != nil {
		cs.State.Waiting = troubled(rec.Trouble, c.Image, s.Now)
		cs.LastTerminationState.Terminated = exit
		return
	}
	cs.State.Terminated = exit
}

func (s Situation) waiting(c *v1.Container, k class, rec *Container) *v1.ContainerStateWaiting {
	if rec.Trouble != nil {
		return troubled(rec.Trouble, c.Image, s.Now)
	}
	if t := s.Record.Trouble; t != nil && s.Record.Open && !s.Record.Fetched && s.hasImageVolumes() {
		return troubled(t, s.volumeImages(), s.Now)
	}
	if k == ephemeralClass || len(s.Pod.Spec.InitContainers) == 0 {
		return &v1.ContainerStateWaiting{Reason: "ContainerCreating"}
	}
	return &v1.ContainerStateWaiting{Reason: "PodInitializing"}
}

func troubled(t *Trouble, image string, now time.Time) *v1.ContainerStateWaiting {
	if pullFailed(t.Reason) && !now.Before(t.At.Add(fresh)) {
		return &v1.ContainerStateWaiting{Reason: ReasonImagePullBackOff,
			Message: fmt.Sprintf("Back-off pulling image %q: %s: %s", image, t.Reason, t.Message)}
	}
	return &v1.ContainerStateWaiting{Reason: t.Reason, Message: t.Message}
}

// volumeImages names the images that are volumes.
func (s Situation) volumeImages() string {
	var out []string
	for _, v := range s.Pod.Spec.Volumes {
		if v.Image != nil {
			out = append(out, v.Image.Reference)
		}
	}
	return strings.Join(out, ", ")
}

func (e *Exit) state() *v1.ContainerStateTerminated {
	t := &v1.ContainerStateTerminated{ExitCode: e.Code, Reason: e.Reason, Message: e.Message,
		StartedAt: at(e.StartedAt), FinishedAt: at(e.FinishedAt)}
	if e.ID != "" {
		t.ContainerID = IDPrefix + e.ID
	}
	return t
}

// at is a time as it will be read back from the log: whole seconds.
func at(t time.Time) metav1.Time {
	if t.IsZero() {
		return metav1.Time{}
	}
	return metav1.NewTime(t.Truncate(second))
}
