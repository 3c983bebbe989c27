package ladder

import (
	"fmt"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
)

// Own are the conditions that a node sets; all others belong to somebody else and are carried along.
var Own = []v1.PodConditionType{v1.PodReadyToStartContainers, v1.PodInitialized, v1.PodReady, v1.ContainersReady, v1.PodScheduled,
	v1.PodResizePending, v1.PodResizeInProgress}

// conditions sets the status's conditions: the node's own, then the others' from the pod's object.
func (s Situation) conditions(st, prev *v1.PodStatus) {
	var foreign []v1.PodCondition
	for _, c := range s.Pod.Status.Conditions {
		if !slices.Contains(Own, c.Type) {
			foreign = append(foreign, c)
		}
	}
	ready := s.containersReady(st)
	gates := ready
	gates.Type = v1.PodReady
	if ready.Status == v1.ConditionTrue {
		gates = gated(s.Pod, foreign)
	}
	sandbox := v1.PodCondition{Type: v1.PodReadyToStartContainers, Status: boolean(s.Record.Connected && s.Record.Open)}
	scheduled := v1.PodCondition{Type: v1.PodScheduled, Status: v1.ConditionTrue}
	own := append([]v1.PodCondition{sandbox, s.initializedCondition(st), gates, ready, scheduled}, s.resizeConditions()...)
	for _, c := range own {
		c.ObservedGeneration = s.Pod.Generation
		st.Conditions = append(st.Conditions, s.since(c, prev))
	}
	st.Conditions = append(st.Conditions, foreign...)
}

// since gives a condition its transition time: the previous one's, unless the status changed.
func (s Situation) since(c v1.PodCondition, prev *v1.PodStatus) v1.PodCondition {
	for _, known := range []*v1.PodStatus{prev, &s.Pod.Status} {
		if known == nil {
			continue
		}
		for _, was := range known.Conditions {
			if was.Type == c.Type {
				if was.Status == c.Status {
					c.LastTransitionTime, c.LastProbeTime = was.LastTransitionTime, was.LastProbeTime
				} else {
					c.LastTransitionTime = at(s.Now)
				}
				return c
			}
		}
	}
	c.LastTransitionTime = at(s.Now)
	return c
}

func boolean(b bool) v1.ConditionStatus {
	if b {
		return v1.ConditionTrue
	}
	return v1.ConditionFalse
}

func (s Situation) initializedCondition(st *v1.PodStatus) v1.PodCondition {
	c := v1.PodCondition{Type: v1.PodInitialized, Status: v1.ConditionTrue}
	if st.Phase == v1.PodSucceeded {
		c.Reason = "PodCompleted"
		return c
	}
	if s.initialized() {
		return c
	}
	var incomplete []string
	for i := range s.Pod.Spec.InitContainers {
		ic, cs := &s.Pod.Spec.InitContainers[i], &st.InitContainerStatuses[i]
		if IsSidecar(ic) && (cs.Started == nil || !*cs.Started) || !IsSidecar(ic) && !cs.Ready {
			incomplete = append(incomplete, ic.Name)
		}
	}
	if len(incomplete) > 0 {
		c.Status, c.Reason = v1.ConditionFalse, "ContainersNotInitialized"
		c.Message = fmt.Sprintf("containers with incomplete status: %s", incomplete)
	}
	return c
}

func (s Situation) containersReady(st *v1.PodStatus) v1.PodCondition {
	c := v1.PodCondition{Type: v1.ContainersReady, Status: v1.ConditionFalse}
	switch st.Phase {
	case v1.PodSucceeded:
		c.Reason = "PodCompleted"
		return c
	case v1.PodFailed:
		c.Reason = "PodFailed"
		return c
	}
	var unready []string
	for i := range s.Pod.Spec.InitContainers {
		if IsSidecar(&s.Pod.Spec.InitContainers[i]) && !st.InitContainerStatuses[i].Ready {
			unready = append(unready, s.Pod.Spec.InitContainers[i].Name)
		}
	}
	for i := range s.Pod.Spec.Containers {
		if !st.ContainerStatuses[i].Ready {
			unready = append(unready, s.Pod.Spec.Containers[i].Name)
		}
	}
	if len(unready) > 0 {
		c.Reason, c.Message = "ContainersNotReady", fmt.Sprintf("containers with unready status: %s", unready)
		return c
	}
	c.Status = v1.ConditionTrue
	return c
}

// gated is the Ready condition of a pod whose containers are ready.
func gated(pod *v1.Pod, conditions []v1.PodCondition) v1.PodCondition {
	var messages []string
	for _, gate := range pod.Spec.ReadinessGates {
		i := slices.IndexFunc(conditions, func(c v1.PodCondition) bool { return c.Type == gate.ConditionType })
		switch {
		case i < 0:
			messages = append(messages, fmt.Sprintf("corresponding condition of pod readiness gate %q does not exist.", gate.ConditionType))
		case conditions[i].Status != v1.ConditionTrue:
			messages = append(messages, fmt.Sprintf("the status of pod readiness gate %q is not \"True\", but %v", gate.ConditionType, conditions[i].Status))
		}
	}
	if len(messages) > 0 {
		return v1.PodCondition{Type: v1.PodReady, Status: v1.ConditionFalse, Reason: "ReadinessGatesNotReady", Message: strings.Join(messages, ", ")}
	}
	return v1.PodCondition{Type: v1.PodReady, Status: v1.ConditionTrue}
}
