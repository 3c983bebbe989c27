package loop

import (
	"cmp"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	policyv1 "k8s.io/api/policy/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/orlog-io/orlog/events"
)

// Resource names an API resource and the Go type that its objects are read as.
type Resource[T any] struct {
	schema.GroupVersionResource
	Kind       string
	Namespaced bool
	// Volatile resources live in the volatile log, outside the audit log.
	Volatile bool
}

// The resources that deciders read and write, each at its storage version.
var (
	Pods            = namespaced[corev1.Pod]("", "v1", "pods", "Pod")
	Services        = namespaced[corev1.Service]("", "v1", "services", "Service")
	Endpoints       = namespaced[corev1.Endpoints]("", "v1", "endpoints", "Endpoints") //nolint:staticcheck // still read by many clients
	ConfigMaps      = namespaced[corev1.ConfigMap]("", "v1", "configmaps", "ConfigMap")
	ServiceAccounts = namespaced[corev1.ServiceAccount]("", "v1", "serviceaccounts", "ServiceAccount")
	Claims          = namespaced[corev1.PersistentVolumeClaim]("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim")
	Volumes         = cluster[corev1.PersistentVolume]("", "v1", "persistentvolumes", "PersistentVolume")
	Quotas          = namespaced[corev1.ResourceQuota]("", "v1", "resourcequotas", "ResourceQuota")
	Namespaces      = cluster[corev1.Namespace]("", "v1", "namespaces", "Namespace")
	Nodes           = cluster[corev1.Node]("", "v1", "nodes", "Node")
	Deployments     = namespaced[appsv1.Deployment]("apps", "v1", "deployments", "Deployment")
	ReplicaSets     = namespaced[appsv1.ReplicaSet]("apps", "v1", "replicasets", "ReplicaSet")
	DaemonSets      = namespaced[appsv1.DaemonSet]("apps", "v1", "daemonsets", "DaemonSet")
	StatefulSets    = namespaced[appsv1.StatefulSet]("apps", "v1", "statefulsets", "StatefulSet")
	Revisions       = namespaced[appsv1.ControllerRevision]("apps", "v1", "controllerrevisions", "ControllerRevision")
	Jobs            = namespaced[batchv1.Job]("batch", "v1", "jobs", "Job")
	CronJobs        = namespaced[batchv1.CronJob]("batch", "v1", "cronjobs", "CronJob")
	EndpointSlices  = namespaced[discoveryv1.EndpointSlice]("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice")
	Budgets         = namespaced[policyv1.PodDisruptionBudget]("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget")
	Leases          = volatile(namespaced[coordinationv1.Lease]("coordination.k8s.io", "v1", "leases", "Lease"))

	ReplicationControllers = namespaced[corev1.ReplicationController]("", "v1", "replicationcontrollers", "ReplicationController")
	AttributesClasses      = cluster[storagev1.VolumeAttributesClass]("storage.k8s.io", "v1", "volumeattributesclasses", "VolumeAttributesClass")
)

func namespaced[T any](group, version, resource, kind string) Resource[T] {
	return Resource[T]{schema.GroupVersionResource{Group: group, Version: version, Resource: resource}, kind, true, false}
}

func cluster[T any](group, version, resource, kind string) Resource[T] {
	r := namespaced[T](group, version, resource, kind)
	r.Namespaced = false
	return r
}

func volatile[T any](r Resource[T]) Resource[T] {
	r.Volatile = true
	return r
}

// Key names one object of the resource. namespace is ignored where the resource has none.
func (r Resource[T]) Key(namespace, name string) events.Key {
	if !r.Namespaced {
		namespace = ""
	}
	return events.Key{Group: r.Group, Resource: r.Resource, Namespace: namespace, Name: name}
}

// Is says whether a key is of the resource.
func (r Resource[T]) Is(k events.Key) bool { return k.Group == r.Group && k.Resource == r.Resource }

// KeyOf names an object that was read as this resource.
func (r Resource[T]) KeyOf(o metav1.Object) events.Key { return r.Key(o.GetNamespace(), o.GetName()) }

// GVK is the resource's kind with its group and version.
func (r Resource[T]) GVK() schema.GroupVersionKind { return r.GroupVersion().WithKind(r.Kind) }

func (r Resource[T]) reader(v *View) Reader {
	if r.Volatile {
		return v.volatile
	}
	return v.log
}

// Get returns a living object, nil where there is none. Shared: do not change it.
func (r Resource[T]) Get(v *View, namespace, name string) *T { return r.At(v, r.Key(namespace, name)) }

// At is Get by key.
func (r Resource[T]) At(v *View, key events.Key) *T {
	from := r.reader(v)
	if from == nil || !r.Is(key) {
		return nil
	}
	s, ok, err := from.Get(key)
	if err != nil {
		v.Fail(err)
	}
	if err != nil || !ok {
		return nil
	}
	return r.Of(v, s)
}

// Of decodes a state of this resource; nil where the object does not live, or is of another resource.
func (r Resource[T]) Of(v *View, s events.State) *T {
	if !s.Exists() || !r.Is(s.Key) {
		return nil
	}
	o, err := decode[T](v.cache, s)
	if err != nil {
		v.Fail(err)
		return nil
	}
	return o
}

// List returns the living objects in a namespace ("": all), by namespace and name. Shared: do not change them.
func (r Resource[T]) List(v *View, namespace string) []*T {
	from := r.reader(v)
	if from == nil {
		return nil
	}
	at := listed{r.Group, r.Resource, namespace}
	if known, ok := v.lists[at]; ok {
		return slices.Clone(known.([]*T)) // who sorts it does so for himself
	}
	var out []*T
	for s := range v.each(from.List(r.Group, r.Resource, namespace)) {
		if o := r.Of(v, s); o != nil {
			out = append(out, o)
		}
	}
	if v.lists != nil && v.Err() == nil {
		v.lists[at] = slices.Clone(out)
	}
	return out
}

// OwnedBy returns the living objects of this resource that name the uid as an owner, by namespace and name.
func (r Resource[T]) OwnedBy(v *View, uid string) []*T {
	var states []events.State
	for s := range v.Owned(uid) {
		if r.Is(s.Key) {
			states = append(states, s)
		}
	}
	slices.SortFunc(states, func(a, b events.State) int {
		return cmp.Or(cmp.Compare(a.Key.Namespace, b.Key.Namespace), cmp.Compare(a.Key.Name, b.Key.Name))
	})
	var out []*T
	for _, s := range states {
		if o := r.Of(v, s); o != nil {
			out = append(out, o)
		}
	}
	return out
}

// Orphans returns the living objects in a namespace that no controller owns, by namespace and name.
func (r Resource[T]) Orphans(v *View, namespace string) []*T {
	from := r.reader(v)
	if from == nil {
		return nil
	}
	var out []*T
	add := func(s events.State) {
		if orphaned(s) {
			if o := r.Of(v, s); o != nil {
				out = append(out, o)
			}
		}
	}
	if v.orphans == nil {
		for s := range v.each(from.List(r.Group, r.Resource, namespace)) {
			add(s)
		}
		return out
	}
	for _, key := range v.orphans.in(r.Group, r.Resource, namespace) {
		if s, ok := v.State(key); ok {
			add(s)
		}
	}
	return out
}
