package endpoints

import (
	"cmp"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/services/loop"
	"github.com/orlog-io/orlog/services/reconcilers/replica"
)

const (
	legacyManagedBy = "endpoints.kubernetes.io/managed-by"
	legacyManager   = "endpoint-controller"
	// overCapacity marks an Endpoints object that lists only part of the addresses.
	overCapacity = corev1.EndpointsOverCapacity
	capacity     = 1000
)

// Legacy decides about the Endpoints objects of Services.
type Legacy struct{}

// Spec declares what the reconciler reads and writes.
func (Legacy) Spec() loop.Spec {
	return loop.Spec{
		Name:     "endpoints",
		Identity: loop.ServiceAccount("endpoint-controller"),
		Inputs: []loop.Input{
			{Resource: "services", Keys: loop.Itself},
			{Resource: "pods", Keys: ofPod},
			{Resource: "endpoints", Keys: func(_ *loop.View, c loop.Change) []events.Key {
				return []events.Key{loop.Services.Key(c.Next.Key.Namespace, c.Next.Key.Name)}
			}},
		},
		Outputs: []loop.Output{{Resource: "endpoints", Shared: true}},
		Workers: 4,
	}
}

// Decide decides about one Service.
func (Legacy) Decide(v *loop.View, key events.Key, _ time.Time) (d loop.Decision) {
	s := loop.Services.At(v, key)
	have := loop.Endpoints.Get(v, key.Namespace, key.Name)
	if s == nil {
		if have != nil && v.Known(key) { // the Service has lived and is gone
			d.Do(loop.Endpoints.Delete(have))
		}
		return d
	}
	if !managed(s) {
		return d
	}
	next := &corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{Namespace: s.Namespace, Name: s.Name}} //nolint:staticcheck // still read by many clients
	if have != nil {
		next = have.DeepCopy()
	}
	next.Labels = maps.Clone(s.Labels)
	if next.Labels == nil {
		next.Labels = map[string]string{}
	}
	delete(next.Labels, corev1.IsHeadlessService)
	next.Labels[legacyManagedBy] = legacyManager
	if headless(s) {
		next.Labels[corev1.IsHeadlessService] = ""
	}
	var cut bool
	next.Subsets, cut = subsets(s, members(v, s))
	if cut {
		metav1.SetMetaDataAnnotation(&next.ObjectMeta, overCapacity, "truncated")
	} else {
		delete(next.Annotations, overCapacity)
	}
	switch {
	case have == nil:
		d.Do(loop.Endpoints.Create(next))
	case !equality.Semantic.DeepEqual(have, next):
		d.Do(loop.Endpoints.Update(next))
	}
	return d
}

// subsets groups addresses by ports, each in one order, so that equal pods make equal objects. true: some
// were left out, as there are too many.
func subsets(s *corev1.Service, pods []*corev1.Pod) ([]corev1.EndpointSubset, bool) {
	by := map[string]*corev1.EndpointSubset{}
	listed := 0
	for _, p := range pods {
		ips := addresses(p, families(s)[0])
		if len(ips) == 0 || (p.DeletionTimestamp != nil && !s.Spec.PublishNotReadyAddresses) {
			continue
		}
		ports := portsOn(s, p)
		if len(ports) == 0 && !(headless(s) && len(s.Spec.Ports) == 0) {
			continue
		}
		if listed++; listed > capacity {
			continue
		}
		key := portsKey(ports)
		if by[key] == nil {
			by[key] = &corev1.EndpointSubset{Ports: subsetPorts(ports)}
		}
		a := corev1.EndpointAddress{IP: ips[0], Hostname: hostname(s, p),
			TargetRef: &corev1.ObjectReference{Kind: loop.Pods.Kind, Namespace: p.Namespace, Name: p.Name, UID: p.UID}}
		if p.Spec.NodeName != "" {
			a.NodeName = &p.Spec.NodeName
		}
		if s.Spec.PublishNotReadyAddresses || replica.Ready(p) != nil {
			by[key].Addresses = append(by[key].Addresses, a)
		} else {
			by[key].NotReadyAddresses = append(by[key].NotReadyAddresses, a)
		}
	}
	var out []corev1.EndpointSubset
	for _, key := range slices.Sorted(maps.Keys(by)) {
		byIP := func(a, b corev1.EndpointAddress) int { return cmp.Compare(a.IP, b.IP) }
		slices.SortStableFunc(by[key].Addresses, byIP)
		slices.SortStableFunc(by[key].NotReadyAddresses, byIP)
		out = append(out, *by[key])
	}
	return out, listed > capacity
}

func subsetPorts(ports []servedPort) []corev1.EndpointPort {
	var out []corev1.EndpointPort
	for _, p := range ports {
		out = append(out, corev1.EndpointPort{Name: p.name, Port: p.number, Protocol: p.protocol, AppProtocol: p.app})
	}
	slices.SortFunc(out, func(a, b corev1.EndpointPort) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Port, b.Port))
	})
	return out
}
