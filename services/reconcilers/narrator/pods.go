package narrator

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/orlog-io/orlog/events"
)

// bound is the verb of the scheduler's decision, as scheduler.Bound.
const bound events.Verb = "bound"

// scheduled: the scheduler has given a pod to a node.
func scheduled(s scene) ([]remark, error) {
	if s.Verb() != bound || s.object.Spec.NodeName == "" {
		return nil, nil
	}
	k := s.Subject.Key
	r := defaultScheduler.normal(s.itself("Pod"), "Scheduled", "Successfully assigned %s/%s to %s", k.Namespace, k.Name, s.object.Spec.NodeName)
	r.action = "Binding"
	return []remark{r}, nil
}

// unschedulable: the scheduler has found no node for a pod.
func unschedulable(s scene) ([]remark, error) {
	c := s.object.condition(string(corev1.PodScheduled))
	if c.Status != string(corev1.ConditionFalse) || c.Reason != corev1.PodReasonUnschedulable {
		return nil, nil
	}
	r := defaultScheduler.warning(s.itself("Pod"), "FailedScheduling", "%s", c.Message)
	r.action = "Scheduling"
	return []remark{r}, nil
}

// evicted: a pod must leave its node, whose taints it does not tolerate (any longer).
func evicted(s scene) ([]remark, error) {
	if ends, err := s.ends(); !ends || err != nil {
		return nil, err
	}
	k := s.Subject.Key
	return []remark{taintEviction.normal(s.itself("Pod"), "TaintManagerEviction", "Marking for deletion Pod %s/%s", k.Namespace, k.Name)}, nil
}
