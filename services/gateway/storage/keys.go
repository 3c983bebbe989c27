package storage

import (
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apistorage "k8s.io/apiserver/pkg/storage"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/projections"
)

// span is what a key given to GetList or Watch covers: the objects that selector selects and covers accepts.
type span struct {
	// prefix is the prepared key: continue tokens are relative to it.
	prefix   string
	selector projections.Selector
	// one is set where a single object is asked for; nothing where the key can name none.
	one     *events.Key
	nothing bool
}

// span reads a list or watch key: "<prefix>/", "<prefix>/<namespace>/" or, where not recursive, an object's.
func (s *store) span(key string, recursive bool) (span, error) {
	prepared, err := apistorage.PrepareKey(s.prefix, key, recursive)
	if err != nil {
		return span{}, err
	}
	out := span{prefix: prepared, selector: projections.Selector{Group: s.resource.Group, Resource: s.resource.Resource}}
	if !recursive {
		k, ok := s.parseKey(prepared)
		if !ok {
			out.nothing = true
			return out, nil
		}
		out.one = &k
		out.selector.Namespace, out.selector.Name = k.Namespace, k.Name
		return out, nil
	}
	rest := strings.TrimSuffix(prepared[len(s.prefix):], "/")
	out.selector.Namespace = rest
	out.nothing = strings.Contains(rest, "/") // below an object there is nothing
	return out, nil
}

// covers reports whether an object that the selector selected is meant: a selector with a name and no
// namespace takes that name in every namespace.
func (p span) covers(k events.Key) bool { return !p.nothing && (p.one == nil || *p.one == k) }

// object reads the key of one object. ok is false where the key is legal but can name no object.
func (s *store) object(key string) (k events.Key, prepared string, ok bool, err error) {
	prepared, err = apistorage.PrepareKey(s.prefix, key, false)
	if err != nil {
		return events.Key{}, "", false, err
	}
	k, ok = s.parseKey(prepared)
	return k, prepared, ok, nil
}

// writable is object for writes, which need a key that names an object.
func (s *store) writable(key string) (events.Key, string, error) {
	k, prepared, ok, err := s.object(key)
	if err == nil && !ok {
		err = apierrors.NewBadRequest("storage key " + prepared + " names no object: want " + s.prefix + "[<namespace>/]<name>")
	}
	return k, prepared, err
}

// parseKey splits a prepared key into namespace and name; a single segment is the name of a cluster-scoped
// object.
func (s *store) parseKey(prepared string) (events.Key, bool) {
	k := events.Key{Group: s.resource.Group, Resource: s.resource.Resource}
	rest := prepared[len(s.prefix):]
	namespace, name, namespaced := strings.Cut(rest, "/")
	if namespaced {
		k.Namespace, k.Name = namespace, name
	} else {
		k.Name = rest
	}
	return k, k.Name != "" && !strings.Contains(k.Name, "/")
}

// storageKey is the key that upstream knows an object by.
func (s *store) storageKey(k events.Key) string { return s.prefix + relative(k) }

// relative is namespace/name, or the name alone where cluster-scoped.
func relative(k events.Key) string {
	if k.Namespace == "" {
		return k.Name
	}
	return k.Namespace + "/" + k.Name
}
