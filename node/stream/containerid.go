package stream

import (
	"fmt"
	"strings"

	v1 "k8s.io/api/core/v1"
)

// ContainerID picks from a pod's status the container whose logs (or, with previous, whose predecessor's) a user
// asks for by name, without the runtime's scheme ("orlog://"). The errors are worded as the kubelet's, which
// people and tools know; that of a container the pod does not have wraps ErrNotFound.
func ContainerID(pod *v1.Pod, container string, previous bool) (string, error) {
	if !hasContainer(pod, container) {
		return "", fmt.Errorf("container %q in pod %q: %w", container, pod.Name, ErrNotFound)
	}
	st, ok := statusOf(pod, container)
	if !ok {
		return "", fmt.Errorf("container %q in pod %q is not available", container, pod.Name)
	}
	last, state := st.LastTerminationState.Terminated, st.State
	lastID := ""
	if last != nil {
		lastID = last.ContainerID
	}
	var id string
	switch {
	case previous:
		if lastID == "" {
			return "", fmt.Errorf("previous terminated container %q in pod %q not found", container, pod.Name)
		}
		id = lastID
	case state.Running != nil:
		id = st.ContainerID
	case state.Terminated != nil && state.Terminated.ContainerID != "":
		id = state.Terminated.ContainerID
	case lastID != "":
		id = lastID
	case state.Terminated != nil || last != nil:
		return "", fmt.Errorf("container %q in pod %q is terminated", container, pod.Name)
	case state.Waiting != nil:
		return "", fmt.Errorf("container %q in pod %q is waiting to start: %s", container, pod.Name, waitingFor(state.Waiting.Reason))
	default:
		return "", fmt.Errorf("container %q in pod %q is waiting to start - no logs yet", container, pod.Name)
	}
	_, bare, found := strings.Cut(id, "://")
	if !found {
		bare = id
	}
	return bare, nil
}

func waitingFor(reason string) string {
	switch reason {
	case "ErrImagePull":
		return "image can't be pulled"
	case "ImagePullBackOff":
		return "trying and failing to pull image"
	}
	return reason
}

func hasContainer(pod *v1.Pod, name string) bool {
	for _, c := range pod.Spec.Containers {
		if c.Name == name {
			return true
		}
	}
	for _, c := range pod.Spec.InitContainers {
		if c.Name == name {
			return true
		}
	}
	for _, c := range pod.Spec.EphemeralContainers {
		if c.Name == name {
			return true
		}
	}
	return false
}

func statusOf(pod *v1.Pod, name string) (v1.ContainerStatus, bool) {
	for _, list := range [][]v1.ContainerStatus{
		pod.Status.ContainerStatuses, pod.Status.InitContainerStatuses, pod.Status.EphemeralContainerStatuses,
	} {
		for _, st := range list {
			if st.Name == name {
				return st, true
			}
		}
	}
	return v1.ContainerStatus{}, false
}
