package disruption

import (
	"encoding/json"
	"fmt"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/services/loop"
	"github.com/orlog-io/orlog/services/reconcilers/replica"
)

// scaleOf sums up how many pods the controllers of pods ask for. Pods without a controller do not count; a
// controller that cannot be asked is an error, as the budget would then be relative to an unknown.
func scaleOf(v *loop.View, pods []*corev1.Pod) (int32, error) {
	scales := map[types.UID]bool{}
	var sum int32
	for _, p := range pods {
		ref := metav1.GetControllerOfNoCopy(p)
		if ref == nil || scales[ref.UID] {
			continue
		}
		uid, n, err := controllerScale(v, p.Namespace, ref)
		if err != nil {
			return 0, err
		}
		if uid == "" {
			return 0, fmt.Errorf("found no controllers for pod %q", p.Name)
		}
		scales[ref.UID] = true
		if uid != ref.UID { // a Deployment, which several ReplicaSets share
			if scales[uid] {
				continue
			}
			scales[uid] = true
		}
		sum += n
	}
	return sum, nil
}

// controllerScale asks a controller, or the Deployment behind it. uid "": it is gone.
func controllerScale(v *loop.View, namespace string, ref *metav1.OwnerReference) (uid types.UID, n int32, err error) {
	gv, err := schema.ParseGroupVersion(ref.APIVersion)
	if err != nil {
		return "", 0, fmt.Errorf("apiVersion %q of the owner %s: %w", ref.APIVersion, ref.Name, err)
	}
	switch (schema.GroupKind{Group: gv.Group, Kind: ref.Kind}) {
	case loop.ReplicaSets.GVK().GroupKind():
		rs := loop.ReplicaSets.Get(v, namespace, ref.Name)
		if rs == nil || rs.UID != ref.UID {
			return "", 0, nil
		}
		if up := metav1.GetControllerOfNoCopy(rs); up != nil && up.Kind == loop.Deployments.Kind {
			return deploymentScale(v, rs, up)
		}
		return rs.UID, replica.Deref(rs.Spec.Replicas, 1), nil
	case loop.StatefulSets.GVK().GroupKind():
		if s := loop.StatefulSets.Get(v, namespace, ref.Name); s != nil && s.UID == ref.UID {
			return s.UID, replica.Deref(s.Spec.Replicas, 1), nil
		}
		return "", 0, nil
	case loop.ReplicationControllers.GVK().GroupKind():
		if rc := loop.ReplicationControllers.Get(v, namespace, ref.Name); rc != nil && rc.UID == ref.UID {
			return rc.UID, replica.Deref(rc.Spec.Replicas, 1), nil
		}
		return "", 0, nil
	}
	return customScale(v, namespace, gv, ref)
}

func deploymentScale(v *loop.View, rs *appsv1.ReplicaSet, up *metav1.OwnerReference) (types.UID, int32, error) {
	if d := loop.Deployments.Get(v, rs.Namespace, up.Name); d != nil && d.UID == up.UID {
		return d.UID, replica.Deref(d.Spec.Replicas, 1), nil
	}
	return "", 0, nil
}

// definition is as much of a CustomResourceDefinition as tells where an object's scale is.
type definition struct {
	Spec struct {
		Group    string
		Names    struct{ Kind, Plural string }
		Versions []struct {
			Name         string
			Subresources struct {
				Scale *struct{ SpecReplicasPath string }
			}
		}
	}
}

// customScale reads the scale of a custom resource.
func customScale(v *loop.View, namespace string, gv schema.GroupVersion, ref *metav1.OwnerReference) (types.UID, int32, error) {
	for s := range v.States("apiextensions.k8s.io", "customresourcedefinitions", "") {
		var crd definition
		if json.Unmarshal(s.Object, &crd) != nil || crd.Spec.Group != gv.Group || crd.Spec.Names.Kind != ref.Kind {
			continue
		}
		for _, version := range crd.Spec.Versions {
			if version.Name != gv.Version || version.Subresources.Scale == nil {
				continue
			}
			state, ok := v.State(events.Key{Group: gv.Group, Resource: crd.Spec.Names.Plural, Namespace: namespace, Name: ref.Name})
			if !ok || state.UID != string(ref.UID) {
				return "", 0, nil
			}
			return ref.UID, int32(numberAt(state.Object, version.Subresources.Scale.SpecReplicasPath)), nil
		}
	}
	return "", 0, fmt.Errorf("%s %s does not implement the scale subresource", gv.WithKind(ref.Kind).GroupKind(), ref.Name)
}

// numberAt reads an integer at a path such as ".spec.replicas"; what is not there is 0.
func numberAt(object []byte, path string) int64 {
	var o map[string]any
	if json.Unmarshal(object, &o) != nil {
		return 0
	}
	value, found, err := unstructured.NestedFieldNoCopy(o, strings.Split(strings.TrimPrefix(path, "."), ".")...)
	if n, ok := value.(float64); ok && found && err == nil {
		return int64(n)
	}
	return 0
}

// replicasIn is what a controller asks for, -1 where it does not say.
func replicasIn(object []byte) int32 {
	var o struct{ Spec struct{ Replicas *int32 } }
	if json.Unmarshal(object, &o) != nil || o.Spec.Replicas == nil {
		return -1
	}
	return *o.Spec.Replicas
}
