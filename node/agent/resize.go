package agent

import (
	"context"
	"fmt"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/resource"

	"github.com/orlog-io/orlog/node/agent/ladder"
	"github.com/orlog-io/orlog/node/agent/spec"
	"github.com/orlog-io/orlog/node/runc"
)

// allocation is what a pod's containers ask for.
func allocation(pod *v1.Pod) map[string]v1.ResourceRequirements {
	out := map[string]v1.ResourceRequirements{}
	for _, list := range [][]v1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			out[list[i].Name] = list[i].Resources
		}
	}
	return out
}

// allocate sets aside what a pod's spec asks for now, if the node has it.
func (a *Agent) allocate(pod *v1.Pod) ladder.Outcome {
	a.admits.Lock()
	defer a.admits.Unlock()
	used := v1.ResourceList{}
	for _, w := range a.all() {
		if other, counts := w.holds(); counts && other.UID != pod.UID {
			add(used, resource.PodRequests(other, resource.PodResourcesOptions{}))
		}
	}
	request, has := resource.PodRequests(pod, resource.PodResourcesOptions{}), a.machine.allocatable()
	pending := func(reason, message string) ladder.Outcome {
		return ladder.Outcome{Pending: &ladder.Pending{Reason: reason, Message: message, At: time.Now(), Generation: pod.Generation}}
	}
	if r := fits(request, v1.ResourceList{}, has, 0); r != nil {
		return pending(ladder.ResizeInfeasible, strings.Replace(strings.TrimPrefix(r.Message, rejected), "enough resource", "enough capacity", 1))
	}
	if r := fits(request, used, has, 0); r != nil {
		return pending(ladder.ResizeDeferred, strings.TrimPrefix(r.Message, rejected))
	}
	return ladder.Outcome{Allocated: allocation(pod)}
}

// rejected begins the message of a pod that the node does not take.
const rejected = "Pod was rejected: "

// withAllocated is the pod as the node treats it: with the resources set aside for it.
func (w *worker) withAllocated(pod *v1.Pod, actual bool) *v1.Pod {
	pod = pod.DeepCopy()
	for _, list := range [][]v1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			rec := w.rec.Container(list[i].Name)
			if rec.Allocated != nil {
				list[i].Resources = *rec.Allocated
			}
			if actual && rec.Actual != nil && rec.Running() {
				list[i].Resources = *rec.Actual
			}
		}
	}
	return pod
}

// resize gives a running container what was set aside for it. The pod as a whole is raised before and lowered after.
func (w *worker) resize(ctx context.Context, pod *v1.Pod, name string) ladder.Outcome {
	rec := w.rec.Container(name)
	before, after := spec.PodLimits(w.withAllocated(pod, true)), spec.PodLimits(w.withAllocated(pod, false))
	to := spec.ContainerLimits(ladder.FindContainer(w.withAllocated(pod, false), name))
	if err := w.roomToShrink(ctx, name, to.MemoryBytes); err != nil {
		return ladder.Outcome{Err: err}
	}
	if err := w.a.o.Runtime.UpdateSandbox(ctx, w.uid, limitsOf(higher(before, after))); err != nil {
		return ladder.Outcome{Err: err}
	}
	if err := w.a.o.Runtime.UpdateContainer(ctx, w.uid, rec.ID, limitsOf(to)); err != nil {
		return ladder.Outcome{Err: err}
	}
	was := rec.Actual
	rec.Actual = rec.Allocated // as if it were done: what remains is to lower the pod to the sum
	rest := spec.PodLimits(w.withAllocated(pod, true))
	rec.Actual = was
	if err := w.a.o.Runtime.UpdateSandbox(ctx, w.uid, limitsOf(rest)); err != nil {
		return ladder.Outcome{Err: err}
	}
	w.containerEvent(pod, name, v1.EventTypeNormal, "ResizeCompleted", "Container resources updated")
	return ladder.Outcome{}
}

// widen makes room in the pod for a container that is started again with more than it had.
func (w *worker) widen(ctx context.Context, pod *v1.Pod, rec *ladder.Container) error {
	if rec.Actual == nil || rec.Allocated == nil || spec.ContainerLimits(&v1.Container{Resources: *rec.Actual}) == spec.ContainerLimits(&v1.Container{Resources: *rec.Allocated}) {
		return nil
	}
	return w.a.o.Runtime.UpdateSandbox(ctx, w.uid, limitsOf(higher(spec.PodLimits(w.withAllocated(pod, true)), spec.PodLimits(w.withAllocated(pod, false)))))
}

// roomToShrink refuses a memory limit below what the container uses: the kernel would kill it.
func (w *worker) roomToShrink(ctx context.Context, name string, limit int64) error {
	if limit == 0 {
		return nil
	}
	list, err := w.a.o.Runtime.Status(ctx, w.uid)
	if err != nil {
		return err
	}
	for _, st := range list {
		if st.ID != w.rec.Container(name).ID {
			continue
		}
		u, err := w.a.usage.Read(st.Cgroup)
		if err != nil {
			return err
		}
		if int64(u.WorkingSet) > limit {
			return fmt.Errorf("cannot decrease memory limits: container %s uses %d bytes, desired limit %d", name, u.WorkingSet, limit)
		}
	}
	return nil
}

func limitsOf(l spec.Limits) runc.Resources {
	return runc.Resources{CPUShares: l.CPUShares, CPUQuota: l.CPUQuota, CPUPeriod: l.CPUPeriod, MemoryBytes: l.MemoryBytes}
}

// higher is, of each limit, the one that allows more. 0 is no limit.
func higher(a, b spec.Limits) spec.Limits {
	most := func(x, y int64) int64 {
		if x == 0 || y == 0 {
			return 0
		}
		return max(x, y)
	}
	out := spec.Limits{CPUShares: max(a.CPUShares, b.CPUShares), CPUQuota: most(a.CPUQuota, b.CPUQuota), MemoryBytes: most(a.MemoryBytes, b.MemoryBytes)}
	if out.CPUQuota != 0 {
		out.CPUPeriod = max(a.CPUPeriod, b.CPUPeriod)
	}
	return out
}
