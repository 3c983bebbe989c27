package job

import (
	"fmt"
	"slices"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
)

// policy is what the Job's pod failure policy says about a failed pod; "" where it says nothing.
func (r *round) policy(p *corev1.Pod) batchv1.PodFailurePolicyAction {
	if r.job.Spec.PodFailurePolicy == nil {
		return ""
	}
	for i, rule := range r.job.Spec.PodFailurePolicy.Rules {
		var why string
		if rule.OnExitCodes != nil {
			why = exitMatches(rule.OnExitCodes, p)
		} else {
			why = conditionMatches(rule.OnPodConditions, p)
		}
		if why == "" {
			continue
		}
		if rule.Action == batchv1.PodFailurePolicyActionFailJob && r.failJob == "" {
			r.failJob = fmt.Sprintf("%s matching %s rule at index %d", why, rule.Action, i)
		}
		return rule.Action
	}
	return ""
}

func exitMatches(on *batchv1.PodFailurePolicyOnExitCodesRequirement, p *corev1.Pod) string {
	for _, c := range slices.Concat(p.Status.ContainerStatuses, p.Status.InitContainerStatuses) {
		if on.ContainerName != nil && *on.ContainerName != c.Name {
			continue
		}
		t := c.State.Terminated
		if t == nil || t.ExitCode == 0 {
			continue
		}
		if slices.Contains(on.Values, t.ExitCode) == (on.Operator == batchv1.PodFailurePolicyOnExitCodesOpIn) {
			return fmt.Sprintf("Container %s for pod %s/%s failed with exit code %d", c.Name, p.Namespace, p.Name, t.ExitCode)
		}
	}
	return ""
}

func conditionMatches(on []batchv1.PodFailurePolicyOnPodConditionsPattern, p *corev1.Pod) string {
	for _, want := range on {
		for _, c := range p.Status.Conditions {
			if c.Type == want.Type && c.Status == want.Status {
				return fmt.Sprintf("Pod %s/%s has condition %s", p.Namespace, p.Name, c.Type)
			}
		}
	}
	return ""
}
