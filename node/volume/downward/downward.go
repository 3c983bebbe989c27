package downward

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// Fields is a pod whose fields are asked for.
type Fields struct {
	Pod *v1.Pod
	// PodIPs and HostIPs are the node's own knowledge, newer than the pod's status. May be nil.
	PodIPs, HostIPs []string
	NodeName        string
	// Allocatable stands in for limits that the pod does not set.
	Allocatable v1.ResourceList
}

// Field is the text of a field path: metadata.name, metadata.labels['key'], status.podIP, ...
func (f Fields) Field(path string) (string, error) {
	if field, key, subscript := subscripted(path); subscript {
		switch field {
		case "metadata.labels":
			return f.Pod.Labels[key], nil
		case "metadata.annotations":
			return f.Pod.Annotations[key], nil
		}
		return "", fmt.Errorf("fieldPath %q does not support subscript", path)
	}
	switch path {
	case "metadata.name":
		return f.Pod.Name, nil
	case "metadata.namespace":
		return f.Pod.Namespace, nil
	case "metadata.uid":
		return string(f.Pod.UID), nil
	case "metadata.labels":
		return lines(f.Pod.Labels), nil
	case "metadata.annotations":
		return lines(f.Pod.Annotations), nil
	case "spec.nodeName":
		if f.Pod.Spec.NodeName == "" {
			return f.NodeName, nil
		}
		return f.Pod.Spec.NodeName, nil
	case "spec.serviceAccountName":
		return f.Pod.Spec.ServiceAccountName, nil
	case "status.podIP":
		return first(f.podIPs()), nil
	case "status.podIPs":
		return strings.Join(f.podIPs(), ","), nil
	case "status.hostIP":
		return first(f.hostIPs()), nil
	case "status.hostIPs":
		return strings.Join(f.hostIPs(), ","), nil
	}
	return "", fmt.Errorf("unsupported fieldPath: %v", path)
}

func (f Fields) podIPs() []string {
	if len(f.PodIPs) > 0 {
		return f.PodIPs
	}
	var out []string
	for _, ip := range f.Pod.Status.PodIPs {
		out = append(out, ip.IP)
	}
	return out
}

func (f Fields) hostIPs() []string {
	if len(f.HostIPs) > 0 {
		return f.HostIPs
	}
	var out []string
	for _, ip := range f.Pod.Status.HostIPs {
		out = append(out, ip.IP)
	}
	return out
}

func first(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return list[0]
}

// subscripted splits metadata.labels['key'].
func subscripted(path string) (field, key string, ok bool) {
	if !strings.HasSuffix(path, "']") {
		return "", "", false
	}
	field, key, ok = strings.Cut(strings.TrimSuffix(path, "']"), "['")
	return field, key, ok && field != ""
}

// lines formats a map as the downward API does: key="escaped value", sorted.
func lines(m map[string]string) string {
	var b strings.Builder
	for i, k := range slices.Sorted(maps.Keys(m)) {
		if i > 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "%s=%q", k, m[k])
	}
	return b.String()
}

// Resource is the text of a container's request or limit, divided by the reference's divisor and rounded up.
// container is used where the reference names none.
func (f Fields) Resource(ref *v1.ResourceFieldSelector, container string) (string, error) {
	name := ref.ContainerName
	if name == "" {
		name = container
	}
	c := f.container(name)
	if c == nil {
		return "", fmt.Errorf("resourceFieldRef: container %q not found", name)
	}
	kind, res, _ := strings.Cut(ref.Resource, ".")
	var q resource.Quantity
	switch kind {
	case "limits":
		limit, has := c.Resources.Limits[v1.ResourceName(res)]
		if !has {
			limit = f.Allocatable[v1.ResourceName(res)]
		}
		q = limit
	case "requests":
		request, has := c.Resources.Requests[v1.ResourceName(res)]
		if !has {
			request = c.Resources.Limits[v1.ResourceName(res)]
		}
		q = request
	default:
		return "", fmt.Errorf("unsupported container resource: %v", ref.Resource)
	}
	divisor := ref.Divisor
	if divisor.IsZero() {
		divisor = resource.MustParse("1")
	}
	if res == string(v1.ResourceCPU) {
		return strconv.FormatInt(int64(math.Ceil(float64(q.MilliValue())/float64(divisor.MilliValue()))), 10), nil
	}
	return strconv.FormatInt(int64(math.Ceil(float64(q.Value())/float64(divisor.Value()))), 10), nil
}

func (f Fields) container(name string) *v1.Container {
	for _, list := range [][]v1.Container{f.Pod.Spec.InitContainers, f.Pod.Spec.Containers} {
		for i := range list {
			if list[i].Name == name {
				return &list[i]
			}
		}
	}
	return nil
}
