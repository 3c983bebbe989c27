package agent

import (
	"encoding/json"
	"fmt"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/projections"
)

// sources reads what pods refer to from the agent's projection, and asks the API for tokens.
type sources struct {
	a *Agent
}

func get[T any](s *projections.Store, key events.Key, singular string) (*T, error) {
	v := s.Now()
	defer v.Close()
	state, exists, err := v.Get(key)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", key, err)
	}
	if !exists {
		return nil, apierrors.NewNotFound(schema.GroupResource{Resource: singular}, key.Name)
	}
	out := new(T)
	if err := json.Unmarshal(state.Object, out); err != nil {
		return nil, fmt.Errorf("decoding %s: %w", key, err)
	}
	return out, nil
}

// ConfigMap returns a configMap as of now.
func (s sources) ConfigMap(namespace, name string) (*v1.ConfigMap, error) {
	return get[v1.ConfigMap](s.a.o.Store, events.Key{Resource: "configmaps", Namespace: namespace, Name: name}, "configmap")
}

// Secret returns a secret as of now.
func (s sources) Secret(namespace, name string) (*v1.Secret, error) {
	return get[v1.Secret](s.a.o.Store, events.Key{Resource: "secrets", Namespace: namespace, Name: name}, "secret")
}

// ImageLayers are those of an image that the fetch step has brought.
func (s sources) ImageLayers(reference string) ([]string, error) {
	img, here, err := s.a.o.Images.Get(reference)
	if err == nil && !here {
		err = fmt.Errorf("image %q was removed since it was pulled", reference)
	}
	return img.Layers, err
}

// Allocatable is the node's.
func (s sources) Allocatable() v1.ResourceList { return s.a.machine.allocatable() }

// services lists all services that a pod's environment may name: its namespace's and the API's own.
func (s sources) services(namespace string) ([]*v1.Service, error) {
	v := s.a.o.Store.Now()
	defer v.Close()
	var out []*v1.Service
	seen := map[string]bool{}
	for _, ns := range []string{namespace, metav1.NamespaceDefault} {
		if seen[ns] {
			continue
		}
		seen[ns] = true
		for state, err := range v.List(projections.Selector{Resource: "services", Namespace: ns}, "") {
			if err != nil {
				return nil, err
			}
			svc := &v1.Service{}
			if err := json.Unmarshal(state.Object, svc); err != nil {
				return nil, fmt.Errorf("decoding %s: %w", state.Key, err)
			}
			out = append(out, svc)
		}
	}
	return out, nil
}
