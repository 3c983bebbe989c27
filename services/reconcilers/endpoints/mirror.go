package endpoints

import (
	"maps"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/services/loop"
	"github.com/orlog-io/orlog/services/reconcilers/replica"
)

const (
	// mirrorManager is in the managed-by label of the slices that mirror Endpoints.
	mirrorManager = "endpointslicemirroring-controller.k8s.io"
	// mirrored is how many endpoints a mirroring slice holds at most.
	mirrored = 1000
	// leaderAnnotation marks Endpoints that are a lock, not addresses.
	leaderAnnotation = "control-plane.alpha.kubernetes.io/leader"
)

// Mirror decides about the EndpointSlices of Endpoints that a person wrote, for a Service without a selector.
type Mirror struct{}

// Spec declares what the reconciler reads and writes.
func (Mirror) Spec() loop.Spec {
	same := func(_ *loop.View, c loop.Change) []events.Key {
		return []events.Key{loop.Endpoints.Key(c.Next.Key.Namespace, c.Next.Key.Name)}
	}
	return loop.Spec{
		Name:     "endpointslicemirroring",
		Identity: loop.ServiceAccount("endpointslicemirroring-controller"),
		Inputs: []loop.Input{
			{Resource: "endpoints", Keys: same},
			{Resource: "services", Keys: same},
			{Group: "discovery.k8s.io", Resource: "endpointslices", Keys: ofMirror},
		},
		Outputs: []loop.Output{{Group: "discovery.k8s.io", Resource: "endpointslices", Shared: true}},
	}
}

func ofMirror(v *loop.View, c loop.Change) []events.Key {
	for _, s := range []*discoveryv1.EndpointSlice{loop.EndpointSlices.Of(v, c.Next), loop.EndpointSlices.Of(v, c.Prev)} {
		if s != nil && s.Labels[discoveryv1.LabelManagedBy] == mirrorManager {
			return []events.Key{loop.Endpoints.Key(s.Namespace, s.Labels[discoveryv1.LabelServiceName])}
		}
	}
	return nil
}

// Decide decides about one Endpoints object.
func (Mirror) Decide(v *loop.View, key events.Key, _ time.Time) (d loop.Decision) {
	e, s := loop.Endpoints.At(v, key), loop.Services.Get(v, key.Namespace, key.Name)
	if e == nil {
		return d // its slices are collected by their owner reference
	}
	have := slices.DeleteFunc(loop.EndpointSlices.OwnedBy(v, string(e.UID)), func(s *discoveryv1.EndpointSlice) bool {
		return s.Labels[discoveryv1.LabelManagedBy] != mirrorManager || s.DeletionTimestamp != nil
	})
	var want []*discoveryv1.EndpointSlice
	if _, lock := e.Annotations[leaderAnnotation]; s != nil && s.Spec.Selector == nil && e.DeletionTimestamp == nil && !lock && e.Labels[discoveryv1.LabelSkipMirror] != "true" {
		want = image(e)
	}
	names := replica.Names(v, loop.EndpointSlices, e.Namespace, e.Name+"-", string(e.UID))
	var effects []loop.Effect
	for _, w := range want {
		at := slices.IndexFunc(have, func(h *discoveryv1.EndpointSlice) bool {
			return h.AddressType == w.AddressType && samePorts(h.Ports, w.Ports)
		})
		if at < 0 {
			at = slices.IndexFunc(have, func(h *discoveryv1.EndpointSlice) bool { return h.AddressType == w.AddressType })
		}
		if at < 0 {
			w.Name, w.GenerateName = names.Next(), e.Name+"-"
			effects = append(effects, loop.EndpointSlices.Create(w))
			continue
		}
		next := have[at].DeepCopy()
		next.Labels, next.Annotations, next.Ports, next.Endpoints = w.Labels, w.Annotations, w.Ports, w.Endpoints
		if !equality.Semantic.DeepEqual(have[at], next) {
			effects = append(effects, loop.EndpointSlices.Update(next))
		}
		have = slices.Delete(slices.Clone(have), at, at+1)
	}
	for _, h := range have {
		effects = append(effects, loop.EndpointSlices.Delete(h))
	}
	d.Do(effects...)
	return d
}

// image is what the slices of an Endpoints object should be, without names: for each address family and set of
// ports as many as are needed.
func image(e *corev1.Endpoints) []*discoveryv1.EndpointSlice { //nolint:staticcheck // still written by people
	type sort struct {
		family discoveryv1.AddressType
		ports  string
	}
	groups := map[sort]*group{}
	var order []sort
	for _, sub := range e.Subsets {
		ports, key := mirrorPorts(sub.Ports)
		add := func(addresses []corev1.EndpointAddress, ready bool) {
			for _, a := range addresses {
				ip, err := netip.ParseAddr(a.IP)
				if err != nil {
					continue // the API admits none
				}
				at := sort{discoveryv1.AddressTypeIPv4, key}
				if ip.Is6() && !ip.Is4In6() {
					at.family = discoveryv1.AddressTypeIPv6
				}
				if groups[at] == nil {
					groups[at] = &group{ports: ports}
					order = append(order, at)
				}
				out := discoveryv1.Endpoint{Addresses: []string{ip.Unmap().String()}, Conditions: discoveryv1.EndpointConditions{Ready: &ready},
					TargetRef: a.TargetRef, NodeName: a.NodeName}
				if a.Hostname != "" {
					out.Hostname = &a.Hostname
				}
				groups[at].endpoints = append(groups[at].endpoints, out)
			}
		}
		add(sub.Addresses, true)
		add(sub.NotReadyAddresses, false)
	}
	var out []*discoveryv1.EndpointSlice
	for _, at := range order {
		for part := range slices.Chunk(groups[at].endpoints, mirrored) {
			out = append(out, mirrorSlice(e, at.family, groups[at].ports, part))
		}
	}
	return out
}

func mirrorSlice(e *corev1.Endpoints, family discoveryv1.AddressType, ports []discoveryv1.EndpointPort, endpoints []discoveryv1.Endpoint) *discoveryv1.EndpointSlice {
	labels, annotations := maps.Clone(e.Labels), maps.Clone(e.Annotations)
	if labels == nil {
		labels = map[string]string{}
	}
	labels[discoveryv1.LabelServiceName], labels[discoveryv1.LabelManagedBy] = e.Name, mirrorManager
	delete(annotations, corev1.EndpointsLastChangeTriggerTime)
	delete(annotations, corev1.LastAppliedConfigAnnotation)
	return &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Namespace: e.Namespace, Labels: labels, Annotations: annotations,
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(e, loop.Endpoints.GVK())}},
		AddressType: family, Ports: ports, Endpoints: endpoints,
	}
}

func mirrorPorts(in []corev1.EndpointPort) ([]discoveryv1.EndpointPort, string) {
	var served []servedPort
	for _, p := range in {
		served = append(served, servedPort{p.Name, p.Port, p.Protocol, p.AppProtocol})
	}
	return slicePorts(served), portsKey(served)
}
