package ladder

import (
	"cmp"
	"maps"
	"slices"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// IDPrefix is the scheme of container IDs in statuses.
const IDPrefix = "orlog://"

// Status is what the world should be told about the pod: the whole status. prev is the last status that this
// node computed (for transition times); conditions that are not the node's own come from the pod's object.
func Status(s Situation, prev *v1.PodStatus, hostIPs []string) *v1.PodStatus {
	r := s.Record
	was := &s.Pod.Status
	st := &v1.PodStatus{
		QOSClass: was.QOSClass, NominatedNodeName: was.NominatedNodeName, Resize: was.Resize,
		ResourceClaimStatuses: was.ResourceClaimStatuses, ExtendedResourceClaimStatus: was.ExtendedResourceClaimStatus,
		ObservedGeneration: s.Pod.Generation,
		StartTime:          ptr(metav1.NewTime(r.StartTime)),
	}
	st.StartTime.Time = st.StartTime.Truncate(second)
	for i, ip := range hostIPs {
		if i == 0 {
			st.HostIP = ip
		}
		st.HostIPs = append(st.HostIPs, v1.HostIP{IP: ip})
	}
	for i, ip := range r.IPs {
		if i == 0 {
			st.PodIP = ip
		}
		st.PodIPs = append(st.PodIPs, v1.PodIP{IP: ip})
	}
	if r.Rejected != nil { // no container was ever thought of
		st.Phase, st.Reason, st.Message = v1.PodFailed, r.Rejected.Reason, r.Rejected.Message
		st.Conditions = slices.Clone(was.Conditions)
		return st
	}
	s.containerStatuses(st)
	s.phase(st, prev)
	s.conditions(st, prev)
	return st
}

func (s Situation) phase(st, prev *v1.PodStatus) {
	st.Phase = phaseOf(s.Pod, st, s.terminal(), s.initialized())
	if stop := s.Record.Stop; stop != nil && (stop.Reason == StopDeadline || stop.Reason == StopEvicted) {
		st.Reason, st.Message = stop.Reason, stop.Message
		if s.terminal() {
			st.Phase = v1.PodFailed
		}
	}
	// A terminal phase is final.
	if prev != nil && (prev.Phase == v1.PodFailed || prev.Phase == v1.PodSucceeded) {
		st.Phase = prev.Phase
	}
	// Nor does the end come before the last container's: readers free the pod's resources by it.
	if !s.terminal() && s.anyRunning() && (st.Phase == v1.PodFailed || st.Phase == v1.PodSucceeded) {
		st.Phase = v1.PodRunning
	}
}

// terminal: the pod goes down and no container runs any more.
func (s Situation) terminal() bool { return s.Record.Stop != nil && !s.anyRunning() }

func (s Situation) anyRunning() bool {
	for _, c := range s.Record.Containers {
		if c.Running() {
			return true
		}
	}
	return false
}

// phaseOf derives the phase from the container statuses, by the kubelet's rules.
func phaseOf(pod *v1.Pod, st *v1.PodStatus, terminal, initialized bool) v1.PodPhase {
	var n count
	for i := range pod.Spec.InitContainers {
		c := &pod.Spec.InitContainers[i]
		if IsSidecar(c) {
			n.sidecar(&st.InitContainerStatuses[i])
		} else {
			n.init(c, pod, &st.InitContainerStatuses[i])
		}
	}
	for i := range pod.Spec.Containers {
		n.regular(&pod.Spec.Containers[i], pod, &st.ContainerStatuses[i])
	}
	switch {
	case n.initFailed > 0:
		return v1.PodFailed
	case terminal:
		if n.stopped == n.succeeded && n.stopped == len(pod.Spec.Containers) {
			return v1.PodSucceeded
		}
		return v1.PodFailed
	case n.pendingInit > 0 || n.pendingSidecars > 0 && !initialized || n.waiting > 0:
		return v1.PodPending
	case n.running > 0:
		return v1.PodRunning
	case n.stopped > n.final:
		return v1.PodRunning // being restarted
	case n.stopped == n.succeeded:
		return v1.PodSucceeded
	}
	return v1.PodFailed
}

// count is how many containers are in which state.
type count struct {
	pendingInit, initFailed, pendingSidecars    int
	running, waiting, stopped, final, succeeded int
}

func ended(st *v1.ContainerStatus) *v1.ContainerStateTerminated {
	if st.State.Terminated != nil {
		return st.State.Terminated
	}
	if st.State.Waiting != nil {
		return st.LastTerminationState.Terminated
	}
	return nil
}

func (n *count) init(c *v1.Container, pod *v1.Pod, st *v1.ContainerStatus) {
	end := ended(st)
	switch {
	case end == nil:
		n.pendingInit++
	case end.ExitCode != 0 && !ShouldRestart(c, pod, end.ExitCode):
		n.initFailed++
	case end.ExitCode != 0:
		n.pendingInit++
	}
}

func (n *count) sidecar(st *v1.ContainerStatus) {
	switch {
	case st.State.Running != nil:
		n.running++
		if st.Started == nil || !*st.Started {
			n.pendingSidecars++
		}
	case ended(st) == nil:
		n.waiting++
		n.pendingSidecars++
	}
}

func (n *count) regular(c *v1.Container, pod *v1.Pod, st *v1.ContainerStatus) {
	if st.State.Running != nil {
		n.running++
		return
	}
	end := ended(st)
	if end == nil {
		n.waiting++
		return
	}
	n.stopped++
	if !ShouldRestart(c, pod, end.ExitCode) {
		n.final++
	}
	if end.ExitCode == 0 {
		n.succeeded++
	}
}

// SameStatus compares two statuses as they would be on the log.
func SameStatus(a, b *v1.PodStatus) bool {
	x, y := a.DeepCopy(), b.DeepCopy()
	byType := func(p, q v1.PodCondition) int { return cmp.Compare(p.Type, q.Type) }
	slices.SortFunc(x.Conditions, byType)
	slices.SortFunc(y.Conditions, byType)
	return EqualJSON(x, y)
}

// Names returns the names of the record's containers, sorted.
func (r *Record) Names() []string { return slices.Sorted(maps.Keys(r.Containers)) }
