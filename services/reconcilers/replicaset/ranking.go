package replicaset

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/orlog-io/orlog/services/reconcilers/replica"
)

var phaseOrder = map[corev1.PodPhase]int{corev1.PodPending: 0, corev1.PodUnknown: 1, corev1.PodRunning: 2}

// leastMissed orders pods by how little their deletion hurts, least first: unassigned, pending, not ready, not
// yet available, cheap by annotation, doubled up on a node, ready for the shortest time, often restarted, young.
//
// Upstream does not ask whether a pod is available. But a Deployment counts on it: it scales old ReplicaSets down
// by what is not available of them, and on maxUnavailable holding none the less.
func leastMissed(active, related []*corev1.Pod, minReadySeconds int32, now time.Time) []*corev1.Pod {
	available := func(p *corev1.Pod) bool {
		yes, _ := replica.Available(p, minReadySeconds, now)
		return yes
	}
	onNode := map[string]int{}
	for _, p := range related {
		onNode[p.Spec.NodeName]++
	}
	out := slices.Clone(active)
	slices.SortStableFunc(out, func(a, b *corev1.Pod) int {
		return cmp.Or(
			yesFirst(a.Spec.NodeName == "", b.Spec.NodeName == ""),
			cmp.Compare(phaseOrder[a.Status.Phase], phaseOrder[b.Status.Phase]),
			yesFirst(replica.Ready(a) == nil, replica.Ready(b) == nil),
			yesFirst(!available(a), !available(b)),
			cmp.Compare(deletionCost(a), deletionCost(b)),
			-cmp.Compare(onNode[a.Spec.NodeName], onNode[b.Spec.NodeName]),
			youngerFirst(readyTime(a), readyTime(b), now),
			-cmp.Compare(restarts(a), restarts(b)),
			youngerFirst(a.CreationTimestamp.Time, b.CreationTimestamp.Time, now),
			cmp.Compare(a.UID, b.UID),
		)
	})
	return out
}

func yesFirst(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}

// youngerFirst compares ages by their order of magnitude (doublings), so that among pods of about the same
// age the choice is spread rather than always the very youngest.
func youngerFirst(a, b, now time.Time) int {
	return cmp.Compare(magnitude(a, now), magnitude(b, now))
}

func magnitude(since, now time.Time) int {
	if since.IsZero() {
		return -1
	}
	age := now.Sub(since).Seconds()
	if age < 1 {
		return 0
	}
	return 1 + int(math.Log2(age))
}

func deletionCost(p *corev1.Pod) int64 {
	n, err := strconv.ParseInt(p.Annotations[corev1.PodDeletionCost], 10, 32)
	if err != nil {
		return 0 // the API admits no other values
	}
	return n
}

func readyTime(p *corev1.Pod) time.Time {
	if c := replica.Ready(p); c != nil {
		return c.LastTransitionTime.Time
	}
	return time.Time{}
}

func restarts(p *corev1.Pod) int32 {
	var most int32
	for _, c := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
		most = max(most, c.RestartCount)
	}
	return most
}
