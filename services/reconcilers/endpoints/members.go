package endpoints

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/services/loop"
	"github.com/orlog-io/orlog/services/reconcilers/replica"
)

// ofPod maps a pod to the Services that select it or did, where the change matters to them.
func ofPod(v *loop.View, c loop.Change) []events.Key {
	prev, next := loop.Pods.Of(v, c.Prev), loop.Pods.Of(v, c.Next)
	if prev != nil && next != nil && !differ(prev, next) {
		return nil
	}
	var out []events.Key
	for _, s := range loop.Services.List(v, c.Next.Key.Namespace) {
		if selects(s, prev) || selects(s, next) {
			out = append(out, loop.Services.KeyOf(s))
		}
	}
	return out
}

func selects(s *corev1.Service, p *corev1.Pod) bool {
	return p != nil && len(s.Spec.Selector) > 0 && labels.SelectorFromSet(s.Spec.Selector).Matches(labels.Set(p.Labels))
}

// differ says whether two states of a pod make different endpoints.
func differ(a, b *corev1.Pod) bool {
	return a.UID != b.UID || !maps.Equal(a.Labels, b.Labels) || (a.DeletionTimestamp == nil) != (b.DeletionTimestamp == nil) ||
		replica.Finished(a) != replica.Finished(b) || (replica.Ready(a) == nil) != (replica.Ready(b) == nil) ||
		a.Spec.NodeName != b.Spec.NodeName || !equality.Semantic.DeepEqual(a.Status.PodIPs, b.Status.PodIPs) || a.Status.PodIP != b.Status.PodIP ||
		!equality.Semantic.DeepEqual(a.Spec.Containers, b.Spec.Containers)
}

// members are the pods behind a Service: those that have an address and may still serve.
func members(v *loop.View, s *corev1.Service) []*corev1.Pod {
	selector := labels.SelectorFromSet(s.Spec.Selector)
	var out []*corev1.Pod
	for _, p := range loop.Pods.List(v, s.Namespace) {
		if selector.Matches(labels.Set(p.Labels)) && !replica.Finished(p) && p.Status.PodIP != "" {
			out = append(out, p)
		}
	}
	return out
}

// addresses of a pod in one IP family.
func addresses(p *corev1.Pod, family corev1.IPFamily) []string {
	var out []string
	for _, ip := range p.Status.PodIPs {
		if familyOf(ip.IP) == family {
			out = append(out, ip.IP)
		}
	}
	if len(out) == 0 && familyOf(p.Status.PodIP) == family {
		out = append(out, p.Status.PodIP)
	}
	return out
}

func familyOf(ip string) corev1.IPFamily {
	if slices.Contains([]byte(ip), ':') {
		return corev1.IPv6Protocol
	}
	return corev1.IPv4Protocol
}

// hostname of a pod within the Service's domain, "" where it has none of its own.
func hostname(s *corev1.Service, p *corev1.Pod) string {
	if p.Spec.Hostname != "" && p.Spec.Subdomain == s.Name && p.Namespace == s.Namespace {
		return p.Spec.Hostname
	}
	return ""
}

func headless(s *corev1.Service) bool { return s.Spec.ClusterIP == corev1.ClusterIPNone }

// managed says whether the Service's endpoints are made here.
func managed(s *corev1.Service) bool {
	return len(s.Spec.Selector) > 0 && s.Spec.Type != corev1.ServiceTypeExternalName && s.DeletionTimestamp == nil
}
