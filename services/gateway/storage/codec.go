package storage

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/conversion"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/orlog-io/orlog/events"
)

// encode makes an object's stored form: JSON without resourceVersion and selfLink, which the caller clears.
func (s *store) encode(obj runtime.Object) ([]byte, error) {
	data, err := runtime.Encode(s.codec, obj)
	if err != nil {
		return nil, err
	}
	data = bytes.TrimSpace(data)
	if len(data) == 0 || data[0] != '{' {
		return nil, errors.New("storage codec does not encode JSON: set the storage media type to application/json")
	}
	return data, nil
}

// decode reads stored JSON into an object, as of a revision.
func (s *store) decode(data []byte, out runtime.Object, rev events.Sequence) error {
	if _, err := conversion.EnforcePtr(out); err != nil {
		return fmt.Errorf("unable to convert output object to pointer: %w", err)
	}
	if _, err := s.decoded(data, out, rev); err != nil {
		return err
	}
	return s.finish(data, out, rev)
}

// decodeState reads a state's object into out, or a tombstone's last state with the deletion's revision.
func (s *store) decodeState(state events.State, out runtime.Object) error {
	return s.decode(state.Object, out, state.Revision)
}

// decodeInto is decode for a list's items: the codec may give another object than the one it was given.
func (s *store) decodeInto(data []byte, item runtime.Object, rev events.Sequence) (runtime.Object, error) {
	obj, err := s.decoded(data, item, rev)
	if err != nil {
		return nil, err
	}
	return obj, s.finish(data, obj, rev)
}

// decodeNew is decode for watch events.
func (s *store) decodeNew(data []byte, rev events.Sequence) (runtime.Object, error) {
	obj, err := s.decoded(data, nil, rev)
	if err != nil {
		return nil, err
	}
	return obj, s.finish(data, obj, rev)
}

// decoded is what the codec makes of an object. A status that is not of the kind's shape can only be a node's report,
// which no API server has checked: one such object must not keep all others of its kind from being listed. It is read as
// if nothing were reported yet.
func (s *store) decoded(data []byte, into runtime.Object, rev events.Sequence) (runtime.Object, error) {
	obj, _, err := s.codec.Decode(data, nil, into)
	if err == nil {
		return obj, nil
	}
	without, ok := events.WithoutStatus(data)
	if !ok {
		return nil, err
	}
	if into != nil {
		if err := runtime.SetZeroValue(into); err != nil {
			return nil, err
		}
	}
	obj, _, again := s.codec.Decode(without, nil, into)
	if again != nil {
		return nil, err
	}
	if s.unfit.Swap(uint64(rev)) != uint64(rev) { // else it has just been said
		s.logger.Error("a status that was reported does not fit its kind and is ignored", "resource", s.resource.String(), events.LogSequence, rev, events.LogError, err)
	}
	return obj, nil
}

func (s *store) finish(data []byte, obj runtime.Object, rev events.Sequence) error {
	// Folding puts the status's managedFields last. Upstream takes another order for a change and would
	// write where nothing changed, so they are given in its order.
	if bytes.Contains(data, []byte(`"subresource":"status"`)) {
		sortManagers(obj)
	}
	if err := s.versioner.UpdateObject(obj, uint64(rev)); err != nil {
		return fmt.Errorf("setting resource version %d: %w", rev, err)
	}
	return nil
}

// sortManagers puts metadata.managedFields in the order that upstream's field manager writes.
func sortManagers(obj runtime.Object) {
	m, err := meta.Accessor(obj)
	if err != nil {
		return
	}
	entries := m.GetManagedFields()
	order := func(a, b metav1.ManagedFieldsEntry) int {
		return cmp.Or(cmp.Compare(a.Operation, b.Operation), cmp.Compare(seconds(a.Time), seconds(b.Time)),
			cmp.Compare(a.Manager, b.Manager), cmp.Compare(a.APIVersion, b.APIVersion), cmp.Compare(a.Subresource, b.Subresource))
	}
	if slices.IsSortedFunc(entries, order) {
		return
	}
	entries = slices.Clone(entries)
	slices.SortStableFunc(entries, order)
	m.SetManagedFields(entries)
}

func seconds(t *metav1.Time) int64 {
	if t == nil {
		return 0
	}
	return t.Unix()
}
