package loop

import (
	"encoding/json"
	"fmt"
	"iter"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/orlog-io/orlog/events"
)

// Meta is an object of any resource as far as every object is alike.
type Meta struct {
	metav1.PartialObjectMetadata
	Key events.Key
	// Resource is the resource at the version that the object is stored in.
	Resource schema.GroupVersionResource
}

// MetaOf reads a state's metadata, with its resourceVersion. A broken object makes the view fail.
func (v *View) MetaOf(s events.State) (Meta, bool) {
	m := Meta{Key: s.Key}
	if err := json.Unmarshal(s.Object, &m.PartialObjectMetadata); err != nil {
		v.Fail(fmt.Errorf("reading the metadata of %s at revision %d: %w", s.Key, s.Revision, err))
		return m, false
	}
	gv, err := schema.ParseGroupVersion(m.APIVersion)
	if err != nil || gv.Version == "" {
		v.Fail(fmt.Errorf("apiVersion %q of %s: %w", m.APIVersion, s.Key, events.ErrInvalid))
		return m, false
	}
	m.ResourceVersion = s.Revision.String()
	m.Resource = schema.GroupVersionResource{Group: s.Key.Group, Version: gv.Version, Resource: s.Key.Resource}
	return m, true
}

// Find returns a living object of any resource, from either log.
func (v *View) Find(key events.Key) (Meta, bool) {
	s, ok := v.State(key)
	if !ok && v.volatile != nil {
		var err error
		if s, ok, err = v.volatile.Get(key); err != nil {
			v.Fail(err)
		}
	}
	if !ok {
		return Meta{}, false
	}
	return v.MetaOf(s)
}

// Contents are all living objects in a namespace, of both logs.
func (v *View) Contents(namespace string) []Meta {
	out := v.metas(v.log.All(namespace))
	if v.volatile != nil {
		out = append(out, v.metas(v.volatile.All(namespace))...)
	}
	return out
}

// Dependents are all living objects, of both logs, that name the uid as an owner.
func (v *View) Dependents(uid string) []Meta {
	out := v.metas(v.log.ByOwner(uid))
	if v.volatile != nil {
		out = append(out, v.metas(v.volatile.ByOwner(uid))...)
	}
	return out
}

func (v *View) metas(in iter.Seq2[events.State, error]) []Meta {
	var out []Meta
	for s := range v.each(in) {
		if m, ok := v.MetaOf(s); ok {
			out = append(out, m)
		}
	}
	return out
}

// Delete makes the effect that deletes the object, if it is still the same one (by uid).
func (m *Meta) Delete() Effect {
	return Effect{Verb: Delete, Resource: m.Resource, Key: m.Key, UID: m.UID}
}
