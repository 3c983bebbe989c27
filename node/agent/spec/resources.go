package spec

import (
	v1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/resource"
)

// Kernel limits of CPU shares, and the period of CPU quotas in microseconds.
const (
	minShares = 2
	maxShares = 262144
	period    = 100000
	minQuota  = 1000
)

// Limits are what the kernel shall enforce; 0 means no limit.
type Limits struct {
	CPUShares   uint64
	CPUQuota    int64 // microseconds a period
	CPUPeriod   uint64
	MemoryBytes int64
}

func limits(requests, limits v1.ResourceList) Limits {
	request := requests.Cpu().MilliValue()
	if _, has := requests[v1.ResourceCPU]; !has {
		request = limits.Cpu().MilliValue()
	}
	l := Limits{CPUShares: uint64(min(max(request*1024/1000, minShares), maxShares)), MemoryBytes: limits.Memory().Value()}
	if cpu := limits.Cpu().MilliValue(); cpu > 0 {
		l.CPUQuota, l.CPUPeriod = max(cpu*period/1000, minQuota), period
	}
	return l
}

// ContainerLimits are one container's.
func ContainerLimits(c *v1.Container) Limits { return limits(c.Resources.Requests, c.Resources.Limits) }

// PodLimits are those of the pod's group as a whole: a limit holds only where every container has one.
func PodLimits(pod *v1.Pod) Limits {
	l := limits(resource.PodRequests(pod, resource.PodResourcesOptions{}), resource.PodLimits(pod, resource.PodResourcesOptions{}))
	cpu, memory := true, true
	for _, c := range pod.Spec.Containers {
		_, hasCPU := c.Resources.Limits[v1.ResourceCPU]
		_, hasMemory := c.Resources.Limits[v1.ResourceMemory]
		cpu, memory = cpu && hasCPU, memory && hasMemory
	}
	if pod.Spec.Resources != nil {
		_, hasCPU := pod.Spec.Resources.Limits[v1.ResourceCPU]
		_, hasMemory := pod.Spec.Resources.Limits[v1.ResourceMemory]
		cpu, memory = cpu || hasCPU, memory || hasMemory
	}
	if !cpu {
		l.CPUQuota, l.CPUPeriod = 0, 0
	}
	if !memory {
		l.MemoryBytes = 0
	}
	return l
}

// QOS is the pod's class of service: as its status says, else by its resources.
func QOS(pod *v1.Pod) v1.PodQOSClass {
	if pod.Status.QOSClass != "" {
		return pod.Status.QOSClass
	}
	any, guaranteed := false, true
	for _, list := range [][]v1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			r := list[i].Resources
			for _, name := range []v1.ResourceName{v1.ResourceCPU, v1.ResourceMemory} {
				limit, request := r.Limits[name], r.Requests[name]
				any = any || !limit.IsZero() || !request.IsZero()
				guaranteed = guaranteed && !limit.IsZero() && (request.IsZero() || request.Cmp(limit) == 0)
			}
		}
	}
	switch {
	case !any:
		return v1.PodQOSBestEffort
	case guaranteed:
		return v1.PodQOSGuaranteed
	}
	return v1.PodQOSBurstable
}

// systemCritical is the priority from which a pod is part of the system.
const systemCritical = 2000000000

// OOMScoreAdj is how early the kernel kills the container when memory is short; capacity is the node's memory in
// bytes.
func OOMScoreAdj(pod *v1.Pod, c *v1.Container, capacity int64) int {
	if pod.Spec.Priority != nil && *pod.Spec.Priority >= systemCritical {
		return -997
	}
	switch QOS(pod) {
	case v1.PodQOSGuaranteed:
		return -997
	case v1.PodQOSBestEffort:
		return 1000
	}
	if capacity <= 0 {
		return 999
	}
	request := c.Resources.Requests.Memory().Value()
	return int(min(max(1000-1000*request/capacity, 3), 999))
}

// CgroupParent is the pod's group below root, by class of service.
func CgroupParent(root string, pod *v1.Pod) string {
	switch QOS(pod) {
	case v1.PodQOSBestEffort:
		root += "/besteffort"
	case v1.PodQOSBurstable:
		root += "/burstable"
	}
	return root + "/pod" + string(pod.UID)
}
