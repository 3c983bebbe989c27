package agent

import (
	"fmt"

	v1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/resource"

	"github.com/orlog-io/orlog/node/agent/ladder"
)

// admit decides whether the node takes a pod: it must suit the pod, and have the resources and the host ports free. Admissions come
// one at a time, so that no two pods count on the same ones.
func (a *Agent) admit(pod *v1.Pod) ladder.Outcome {
	a.admits.Lock()
	defer a.admits.Unlock()
	if o := a.suits(pod); o != nil {
		return ladder.Outcome{Reject: o}
	}
	used, pods, ports := v1.ResourceList{}, int64(0), map[hostPort]bool{}
	for _, w := range a.all() {
		other, counts := w.holds()
		if !counts || other.UID == pod.UID {
			continue
		}
		pods++
		add(used, resource.PodRequests(other, resource.PodResourcesOptions{}))
		for _, p := range hostPorts(other) {
			ports[p] = true
		}
	}
	if o := fits(resource.PodRequests(pod, resource.PodResourcesOptions{}), used, a.machine.allocatable(), pods); o != nil {
		return ladder.Outcome{Reject: o}
	}
	for _, p := range hostPorts(pod) {
		for taken := range ports {
			if p.clashes(taken) {
				return ladder.Outcome{Reject: &ladder.Rejection{Reason: "NodePorts", Message: "Pod was rejected: Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports"}}
			}
		}
	}
	a.worker(string(pod.UID)).hold()
	return ladder.Outcome{Allocated: allocation(pod)}
}

// fits compares what a pod requests with what is left.
func fits(request, used, allocatable v1.ResourceList, pods int64) *ladder.Rejection {
	if limit := allocatable.Pods().Value(); pods+1 > limit {
		return &ladder.Rejection{Reason: "OutOfpods", Message: fmt.Sprintf(rejected+"Node didn't have enough resource: pods, requested: 1, used: %d, capacity: %d", pods, limit)}
	}
	for name, want := range request {
		has, ours := allocatable[name]
		if want.IsZero() || !ours && isExtended(name) { // what others advertise for the node, the scheduler counts
			continue
		}
		taken := used[name]
		left := has.DeepCopy()
		left.Sub(taken)
		if want.Cmp(left) > 0 {
			value := func(n int64, milli int64) int64 {
				if name == v1.ResourceCPU {
					return milli
				}
				return n
			}
			return &ladder.Rejection{Reason: "OutOf" + string(name), Message: fmt.Sprintf(rejected+"Node didn't have enough resource: %s, requested: %d, used: %d, capacity: %d",
				name, value(want.Value(), want.MilliValue()), value(taken.Value(), taken.MilliValue()), value(has.Value(), has.MilliValue()))}
		}
	}
	return nil
}

func add(to, more v1.ResourceList) {
	for name, q := range more {
		sum := to[name]
		sum.Add(q)
		to[name] = sum
	}
}

// hostPort is a port of the node that a pod takes.
type hostPort struct {
	ip       string
	protocol v1.Protocol
	port     int32
}

func (p hostPort) clashes(q hostPort) bool {
	anywhere := func(ip string) bool { return ip == "" || ip == "0.0.0.0" || ip == "::" }
	return p.port == q.port && p.protocol == q.protocol && (p.ip == q.ip || anywhere(p.ip) || anywhere(q.ip))
}

func hostPorts(pod *v1.Pod) []hostPort {
	var out []hostPort
	for i := range pod.Spec.Containers {
		for _, p := range pod.Spec.Containers[i].Ports {
			if p.HostPort > 0 {
				protocol := p.Protocol
				if protocol == "" {
					protocol = v1.ProtocolTCP
				}
				out = append(out, hostPort{p.HostIP, protocol, p.HostPort})
			}
		}
	}
	return out
}
