package endpoints

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// servedPort is a port of a Service as one pod serves it.
type servedPort struct {
	name     string
	number   int32
	protocol corev1.Protocol
	app      *string
}

// portsOn resolves a Service's ports on a pod. A port that the pod does not name is left out.
func portsOn(s *corev1.Service, p *corev1.Pod) []servedPort {
	var out []servedPort
	for _, sp := range s.Spec.Ports {
		if n, ok := target(p, sp); ok {
			out = append(out, servedPort{sp.Name, n, sp.Protocol, sp.AppProtocol})
		}
	}
	return out
}

func target(p *corev1.Pod, sp corev1.ServicePort) (int32, bool) {
	if sp.TargetPort.Type == intstr.Int {
		if sp.TargetPort.IntVal == 0 {
			return sp.Port, true
		}
		return sp.TargetPort.IntVal, true
	}
	for _, c := range containers(p) {
		for _, cp := range c.Ports {
			if cp.Name == sp.TargetPort.StrVal && cp.Protocol == sp.Protocol {
				return cp.ContainerPort, true
			}
		}
	}
	return 0, false
}

// containers that serve: the ordinary ones and the sidecars among the init containers.
func containers(p *corev1.Pod) []corev1.Container {
	out := slices.Clone(p.Spec.Containers)
	for _, c := range p.Spec.InitContainers {
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			out = append(out, c)
		}
	}
	return out
}

// portsKey names a set of ports: pods with the same key share a slice or a subset.
func portsKey(ports []servedPort) string {
	var parts []string
	for _, p := range ports {
		app := ""
		if p.app != nil {
			app = *p.app
		}
		parts = append(parts, fmt.Sprintf("%s/%d/%s/%s", p.name, p.number, p.protocol, app))
	}
	slices.Sort(parts)
	return strings.Join(parts, ",")
}
