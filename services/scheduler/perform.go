package scheduler

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/services/loop"
)

// evict makes the effects that make a victim go: it is told why, and deleted, both through the gateway, as
// deletions are requests.
func evict(victim *corev1.Pod, by candidate, node string, now time.Time) ([]loop.Effect, error) {
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": victim.UID}, "status": map[string]any{"conditions": []corev1.PodCondition{{
		Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: corev1.PodReasonPreemptionByScheduler, LastTransitionTime: metav1.NewTime(now),
		Message: fmt.Sprintf("%s: preempting to accommodate a higher priority pod", Name)}}}})
	if err != nil {
		return nil, err
	}
	why, err := json.Marshal(map[string]any{"reason": "preempted", "by": by.state.Key.Namespace + "/" + by.state.Key.Name, "uid": by.state.UID,
		"priority": priority(by.pod), "node": node})
	if err != nil {
		return nil, err
	}
	tell := loop.Pods.Patch(victim, types.StrategicMergePatchType, patch)
	tell.Subresource, tell.Reason = "status", string(why)
	end := loop.Pods.Delete(victim)
	end.Reason = string(why)
	return []loop.Effect{tell, end}, nil
}

// performer appends the scheduler's facts and sends its requests to the gateway.
type performer struct {
	*loop.Append
	requests loop.Performer
}

// Perform performs one effect.
func (p performer) Perform(ctx context.Context, e loop.Effect, why events.Cause) (events.Sequence, error) {
	if e.Verb == loop.AppendEvent {
		return p.Append.Perform(ctx, e, why)
	}
	return p.requests.Perform(ctx, e, why)
}

// PerformAll appends all facts in one durable write, then sends the requests in order.
func (p performer) PerformAll(ctx context.Context, effects []loop.Effect, causes []events.Cause) []loop.Result {
	out := make([]loop.Result, len(effects))
	var facts []loop.Effect
	var whys []events.Cause
	var at []int
	for i, e := range effects {
		if e.Verb == loop.AppendEvent {
			facts, whys, at = append(facts, e), append(whys, causes[i]), append(at, i)
		}
	}
	for j, r := range p.Append.PerformAll(ctx, facts, whys) {
		out[at[j]] = r
	}
	for i, e := range effects {
		if e.Verb != loop.AppendEvent {
			out[i].Sequence, out[i].Err = p.requests.Perform(ctx, e, causes[i])
		}
	}
	return out
}
