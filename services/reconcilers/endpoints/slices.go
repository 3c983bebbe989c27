package endpoints

import (
	"maps"
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

// manager is in the managed-by label of the slices that are written here.
const manager = "endpointslice-controller.k8s.io"

// full is how many endpoints a slice holds at most.
const full = 100

// Slices decides about the EndpointSlices of Services.
type Slices struct{}

// Spec declares what the reconciler reads and writes.
func (Slices) Spec() loop.Spec {
	return loop.Spec{
		Name:     "endpointslice",
		Identity: loop.ServiceAccount("endpointslice-controller"),
		Inputs: []loop.Input{
			{Resource: "services", Keys: loop.Itself},
			{Resource: "pods", Keys: ofPod},
			{Group: "discovery.k8s.io", Resource: "endpointslices", Keys: ofSlice},
			{Resource: "nodes"},
		},
		Outputs: []loop.Output{{Group: "discovery.k8s.io", Resource: "endpointslices", Shared: true}},
		Workers: 4,
	}
}

func ofSlice(v *loop.View, c loop.Change) []events.Key {
	for _, s := range []*discoveryv1.EndpointSlice{loop.EndpointSlices.Of(v, c.Next), loop.EndpointSlices.Of(v, c.Prev)} {
		if s != nil && s.Labels[discoveryv1.LabelManagedBy] == manager {
			return []events.Key{loop.Services.Key(s.Namespace, s.Labels[discoveryv1.LabelServiceName])}
		}
	}
	return nil
}

// Decide decides about one Service.
func (Slices) Decide(v *loop.View, key events.Key, _ time.Time) (d loop.Decision) {
	s := loop.Services.At(v, key)
	if s == nil || !managed(s) {
		return d // slices of a Service that is gone are collected by their owner reference
	}
	pods := members(v, s)
	have := existing(v, s)
	names := replica.Names(v, loop.EndpointSlices, s.Namespace, s.Name+"-", string(s.UID))
	var effects []loop.Effect
	for _, family := range families(s) {
		addressType := discoveryv1.AddressType(family)
		mine := slices.DeleteFunc(slices.Clone(have), func(e *discoveryv1.EndpointSlice) bool { return e.AddressType != addressType })
		effects = append(effects, plan{v, s, addressType, names}.effects(groups(v, s, pods, family), mine)...)
	}
	for _, e := range have {
		if !slices.Contains(families(s), corev1.IPFamily(e.AddressType)) {
			effects = append(effects, loop.EndpointSlices.Delete(e))
		}
	}
	d.Do(effects...)
	return d
}

// existing are the Service's slices that are managed here.
func existing(v *loop.View, s *corev1.Service) []*discoveryv1.EndpointSlice {
	return slices.DeleteFunc(loop.EndpointSlices.OwnedBy(v, string(s.UID)), func(e *discoveryv1.EndpointSlice) bool {
		return e.Labels[discoveryv1.LabelServiceName] != s.Name || e.Labels[discoveryv1.LabelManagedBy] != manager || e.DeletionTimestamp != nil
	})
}

func families(s *corev1.Service) []corev1.IPFamily {
	if len(s.Spec.IPFamilies) > 0 {
		return s.Spec.IPFamilies
	}
	return []corev1.IPFamily{corev1.IPv4Protocol}
}

// group is the endpoints that serve the same ports.
type group struct {
	ports     []discoveryv1.EndpointPort
	endpoints []discoveryv1.Endpoint
}

// groups sorts pods by the ports that they serve. There is always one, so that a Service has a slice.
func groups(v *loop.View, s *corev1.Service, pods []*corev1.Pod, family corev1.IPFamily) map[string]*group {
	out := map[string]*group{}
	for _, p := range pods {
		ips := addresses(p, family)
		if len(ips) == 0 {
			continue
		}
		ports := portsOn(s, p)
		if len(ports) == 0 && len(s.Spec.Ports) > 0 {
			continue // it serves nothing of the Service
		}
		key := portsKey(ports)
		g := out[key]
		if g == nil {
			g = &group{ports: slicePorts(ports)}
			out[key] = g
		}
		g.endpoints = append(g.endpoints, endpoint(v, s, p, ips))
	}
	if len(out) == 0 {
		out[""] = &group{}
	}
	return out
}

func slicePorts(ports []servedPort) []discoveryv1.EndpointPort {
	out := []discoveryv1.EndpointPort{}
	for _, p := range ports {
		out = append(out, discoveryv1.EndpointPort{Name: &p.name, Port: &p.number, Protocol: &p.protocol, AppProtocol: p.app})
	}
	return out
}

func endpoint(v *loop.View, s *corev1.Service, p *corev1.Pod, ips []string) discoveryv1.Endpoint {
	serving, terminating := replica.Ready(p) != nil, p.DeletionTimestamp != nil
	ready := s.Spec.PublishNotReadyAddresses || (serving && !terminating)
	e := discoveryv1.Endpoint{
		Addresses:  ips,
		Conditions: discoveryv1.EndpointConditions{Ready: &ready, Serving: &serving, Terminating: &terminating},
		TargetRef:  &corev1.ObjectReference{Kind: loop.Pods.Kind, Namespace: p.Namespace, Name: p.Name, UID: p.UID},
	}
	if p.Spec.NodeName != "" {
		e.NodeName = &p.Spec.NodeName
		if n := loop.Nodes.Get(v, "", p.Spec.NodeName); n != nil {
			if zone := n.Labels[corev1.LabelTopologyZone]; zone != "" {
				e.Zone = &zone
			}
		}
	}
	if h := hostname(s, p); h != "" {
		e.Hostname = &h
	}
	return e
}

// sliceLabels are the Service's labels and those that slices are found by.
func sliceLabels(s *corev1.Service) map[string]string {
	out := maps.Clone(s.Labels)
	if out == nil {
		out = map[string]string{}
	}
	delete(out, corev1.IsHeadlessService)
	out[discoveryv1.LabelServiceName], out[discoveryv1.LabelManagedBy] = s.Name, manager
	if headless(s) {
		out[corev1.IsHeadlessService] = ""
	}
	return out
}

func newSlice(s *corev1.Service, t discoveryv1.AddressType, name string, g *group) *discoveryv1.EndpointSlice {
	return &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Namespace: s.Namespace, Name: name, GenerateName: s.Name + "-", Labels: sliceLabels(s),
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(s, loop.Services.GVK())}},
		AddressType: t, Ports: g.ports, Endpoints: []discoveryv1.Endpoint{},
	}
}

func samePorts(a, b []discoveryv1.EndpointPort) bool {
	return len(a) == len(b) && equality.Semantic.DeepEqual(a, b)
}
