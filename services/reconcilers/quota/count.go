package quota

import (
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/orlog-io/orlog/services/loop"
)

const (
	countPrefix  = "count/"
	storageClass = ".storageclass.storage.k8s.io/"
)

// countedBy is the resource whose objects a name in a quota is about; false: nobody knows the name.
func countedBy(name corev1.ResourceName) (schema.GroupResource, bool) {
	core := func(r string) (schema.GroupResource, bool) { return schema.GroupResource{Resource: r}, true }
	s := string(name)
	switch name {
	case corev1.ResourceServices, corev1.ResourceServicesNodePorts, corev1.ResourceServicesLoadBalancers:
		return core("services")
	case corev1.ResourceReplicationControllers, corev1.ResourceQuotas, corev1.ResourceSecrets, corev1.ResourceConfigMaps, corev1.ResourcePersistentVolumeClaims:
		return core(s)
	case corev1.ResourceRequestsStorage:
		return core("persistentvolumeclaims")
	case corev1.ResourcePods, corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage,
		corev1.ResourceLimitsCPU, corev1.ResourceLimitsMemory, corev1.ResourceLimitsEphemeralStorage:
		return core("pods")
	}
	switch {
	case strings.HasPrefix(s, countPrefix):
		return schema.ParseGroupResource(s[len(countPrefix):]), true
	case strings.Contains(s, storageClass):
		return core("persistentvolumeclaims")
	case strings.HasPrefix(s, corev1.DefaultResourceRequestsPrefix), strings.HasPrefix(s, corev1.ResourceHugePagesPrefix):
		return core("pods")
	}
	return schema.GroupResource{}, false
}

// count is what is used of everything that a quota limits, and how long until that changes by itself (0: it
// does not).
func count(v *loop.View, q *corev1.ResourceQuota, now time.Time) (corev1.ResourceList, time.Duration) {
	used, wanted := corev1.ResourceList{}, map[schema.GroupResource]bool{}
	for name := range q.Spec.Hard {
		if r, ok := countedBy(name); ok {
			used[name], wanted[r] = *resource.NewQuantity(0, resource.DecimalSI), true
		}
	}
	charge := func(use corev1.ResourceList) {
		for name, n := range use { // order does not matter: each name has its own sum
			if sum, limited := used[name]; limited {
				sum.Add(n)
				used[name] = sum
			}
		}
	}
	var soon time.Duration
	scoped := scopesOf(q)
	for r := range wanted { // order does not matter: these are sums
		if r.Group == "" && r.Resource == "pods" {
			for _, p := range loop.Pods.List(v, q.Namespace) {
				if !inScopes(p, scoped) {
					continue
				}
				use, wait := podUse(p, now)
				charge(use)
				if wait > 0 && (soon == 0 || wait < soon) {
					soon = wait
				}
			}
		} else if len(scoped) == 0 { // only pods have scopes: a quota with one limits nothing else
			chargeObjects(v, q.Namespace, r, charge)
		}
	}
	return used, soon
}

func chargeObjects(v *loop.View, namespace string, r schema.GroupResource, charge func(corev1.ResourceList)) {
	switch {
	case r.Group == "" && r.Resource == "services":
		for _, s := range loop.Services.List(v, namespace) {
			charge(serviceUse(s))
		}
	case r.Group == "" && r.Resource == "persistentvolumeclaims":
		for _, c := range loop.Claims.List(v, namespace) {
			charge(claimUse(c))
		}
	case r.Group == loop.Leases.Group && r.Resource == loop.Leases.Resource:
		charge(objects(r, len(loop.Leases.List(v, namespace))))
	default:
		n := 0
		for range v.States(r.Group, r.Resource, namespace) {
			n++
		}
		charge(objects(r, n))
	}
}

// objects charges for a number of objects, under both names where the resource has an old one.
func objects(r schema.GroupResource, n int) corev1.ResourceList {
	q := *resource.NewQuantity(int64(n), resource.DecimalSI)
	out := corev1.ResourceList{corev1.ResourceName(countPrefix + r.String()): q}
	if r.Group == "" {
		out[corev1.ResourceName(r.Resource)] = q
	}
	return out
}

func serviceUse(s *corev1.Service) corev1.ResourceList {
	out := objects(schema.GroupResource{Resource: "services"}, 1)
	ports, balancers := 0, int64(0)
	switch s.Spec.Type {
	case corev1.ServiceTypeNodePort:
		ports = len(s.Spec.Ports)
	case corev1.ServiceTypeLoadBalancer:
		balancers, ports = 1, len(s.Spec.Ports)
		if a := s.Spec.AllocateLoadBalancerNodePorts; a != nil && !*a {
			ports = 0
			for _, p := range s.Spec.Ports {
				if p.NodePort != 0 {
					ports++
				}
			}
		}
	}
	out[corev1.ResourceServicesNodePorts] = *resource.NewQuantity(int64(ports), resource.DecimalSI)
	out[corev1.ResourceServicesLoadBalancers] = *resource.NewQuantity(balancers, resource.DecimalSI)
	return out
}

func claimUse(c *corev1.PersistentVolumeClaim) corev1.ResourceList {
	out := objects(schema.GroupResource{Resource: "persistentvolumeclaims"}, 1)
	class, legacy := c.Annotations[corev1.BetaStorageClassAnnotation]
	if !legacy && c.Spec.StorageClassName != nil {
		class = *c.Spec.StorageClassName
	}
	asked, any := c.Spec.Resources.Requests[corev1.ResourceStorage]
	if given, ok := c.Status.AllocatedResources[corev1.ResourceStorage]; any && ok && given.Cmp(asked) > 0 {
		asked = given // an expansion that was taken back still holds what it got
	}
	asked = asked.DeepCopy()
	asked.RoundUp(0)
	if any {
		out[corev1.ResourceRequestsStorage] = asked
	}
	if class != "" {
		out[corev1.ResourceName(class+storageClass)+corev1.ResourcePersistentVolumeClaims] = out[corev1.ResourcePersistentVolumeClaims]
		if any {
			out[corev1.ResourceName(class+storageClass)+corev1.ResourceRequestsStorage] = asked
		}
	}
	return out
}
