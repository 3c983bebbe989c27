package proxy

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// addHostPorts adds the ports that pods of this node have on the host. Pods of the host's own network need no rule.
func (r *Ruleset) addHostPorts(pods []*corev1.Pod) {
	pods = slices.Clone(pods)
	slices.SortFunc(pods, func(a, b *corev1.Pod) int {
		return strings.Compare(a.Namespace+"/"+a.Name, b.Namespace+"/"+b.Name)
	})
	for _, pod := range pods {
		ip, ok := ipv4(pod.Status.PodIP)
		over := pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
		if !ok || over || pod.Spec.HostNetwork {
			continue
		}
		containers := slices.Clone(pod.Spec.Containers)
		for _, c := range pod.Spec.InitContainers {
			if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
				containers = append(containers, c) // a sidecar
			}
		}
		for _, container := range containers {
			for _, port := range container.Ports {
				if port.HostPort != 0 {
					r.addHostPort(pod, ip, port)
				}
			}
		}
	}
}

func (r *Ruleset) addHostPort(pod *corev1.Pod, ip netip.Addr, port corev1.ContainerPort) {
	where, on := setHostPorts, frontend{port: uint16(port.HostPort)}
	if addr, ok := ipv4(port.HostIP); ok && !addr.IsUnspecified() {
		where, on.addr = setHostIPPorts, addr
	} else if !ok && port.HostIP != "" {
		return // an address of the other family
	}
	k := key(on, protocol(port.Protocol))
	if !r.claim(where, k, fmt.Sprintf("%s . %d", ip, port.ContainerPort)) {
		r.conflict(pod.Namespace, pod.Name, where, k)
		return
	}
	r.sets[setHairpin].elements[ip.String()+" . "+ip.String()] = ""
	if protocol(port.Protocol) == "udp" {
		if _, taken := r.udp[on]; !taken {
			r.udp[on] = []netip.AddrPort{netip.AddrPortFrom(ip, uint16(port.ContainerPort))}
		}
	}
}
