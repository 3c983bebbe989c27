package ladder

import (
	v1 "k8s.io/api/core/v1"
)

// The verbs of pod events, by what changed, the most telling first.
const (
	VerbStopped     = "stopped"
	VerbFailed      = "failed"
	VerbSucceeded   = "succeeded"
	VerbExited      = "exited"
	VerbRestarted   = "restarted"
	VerbStarted     = "started"
	VerbReady       = "ready"
	VerbUnready     = "unready"
	VerbImagePulled = "image-pulled"
	VerbReported    = "status-reported"
)

// Changes names what is new in a status, the most telling first; empty where nothing of note is (the report is
// VerbReported then). Kept: a fact that a later report must not replace on its way.
func Changes(prev, next *v1.PodStatus) (verbs []string, kept bool) {
	if prev == nil {
		prev = &v1.PodStatus{}
	}
	found := map[string]bool{}
	if next.Phase != prev.Phase {
		found[VerbFailed] = next.Phase == v1.PodFailed
		found[VerbSucceeded] = next.Phase == v1.PodSucceeded
	}
	if now, was := isReady(next), isReady(prev); now != was {
		found[VerbReady], found[VerbUnready] = now, was
	}
	lists := [][2][]v1.ContainerStatus{{prev.InitContainerStatuses, next.InitContainerStatuses},
		{prev.ContainerStatuses, next.ContainerStatuses}, {prev.EphemeralContainerStatuses, next.EphemeralContainerStatuses}}
	for _, l := range lists {
		for i := range l[1] {
			containerChanges(byName(l[0], l[1][i].Name), &l[1][i], found)
		}
	}
	for _, v := range []string{VerbFailed, VerbSucceeded, VerbExited, VerbRestarted, VerbStarted, VerbReady, VerbUnready, VerbImagePulled} {
		if found[v] {
			verbs = append(verbs, v)
		}
	}
	kept = found[VerbFailed] || found[VerbSucceeded] || found[VerbExited] || found[VerbRestarted] || found[VerbStarted]
	return verbs, kept
}

func byName(list []v1.ContainerStatus, name string) *v1.ContainerStatus {
	for i := range list {
		if list[i].Name == name {
			return &list[i]
		}
	}
	return &v1.ContainerStatus{}
}

func isReady(st *v1.PodStatus) bool {
	for _, c := range st.Conditions {
		if c.Type == v1.PodReady {
			return c.Status == v1.ConditionTrue
		}
	}
	return false
}

func containerChanges(was, is *v1.ContainerStatus, found map[string]bool) {
	if is.State.Running != nil && is.ContainerID != was.ContainerID {
		if is.RestartCount > 0 {
			found[VerbRestarted] = true
		} else {
			found[VerbStarted] = true
		}
	}
	ended := is.State.Terminated
	if ended == nil && is.LastTerminationState.Terminated != nil && is.State.Waiting != nil {
		ended = is.LastTerminationState.Terminated
	}
	if ended != nil && ended.ContainerID != "" && !sameEnd(ended, was.State.Terminated) && !sameEnd(ended, was.LastTerminationState.Terminated) {
		found[VerbExited] = true
	}
	if is.ImageID != "" && is.ImageID != was.ImageID && is.ContainerID == "" {
		found[VerbImagePulled] = true
	}
}

func sameEnd(a, b *v1.ContainerStateTerminated) bool {
	return b != nil && a.ContainerID == b.ContainerID && a.ExitCode == b.ExitCode && a.Reason == b.Reason
}
