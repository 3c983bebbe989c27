package storage

import (
	"context"
	"errors"
	"fmt"

	"k8s.io/apimachinery/pkg/runtime"
	apistorage "k8s.io/apiserver/pkg/storage"

	"github.com/orlog-io/orlog/events"
)

// Create implements storage.Interface: one desired event, guarded by the newest desired event about the key,
// which must not have left an object alive.
func (s *store) Create(ctx context.Context, key string, obj, out runtime.Object, ttl uint64) error {
	k, prepared, err := s.writable(key)
	if err != nil {
		return err
	}
	if err := refusePast(ctx, "create"); err != nil {
		return err
	}
	if rv, err := s.versioner.ObjectResourceVersion(obj); err == nil && rv != 0 {
		return apistorage.ErrResourceVersionSetOnCreate
	}
	data, doc, err := s.prepare(obj)
	if err != nil {
		return err
	}
	seq, err := s.create(ctx, k, prepared, data, doc)
	if err != nil {
		return err
	}
	s.settle(ctx, k, seq)
	s.expire(k, seq, ttl)
	if out == nil {
		return nil
	}
	return s.decodeWritten(data, out, seq)
}

// prepare gives an object's stored form, whole and taken apart.
func (s *store) prepare(obj runtime.Object) ([]byte, document, error) {
	if err := s.versioner.PrepareObjectForStorage(obj); err != nil {
		return nil, document{}, fmt.Errorf("preparing the object for storage: %w", err)
	}
	data, err := s.encode(obj)
	if err != nil {
		return nil, document{}, err
	}
	doc, err := parseDocument(data)
	return data, doc, err
}

func (s *store) create(ctx context.Context, k events.Key, prepared string, data []byte, doc document) (events.Sequence, error) {
	var rounds contention
	for fresh := false; ; fresh = true {
		state, err := s.cursor(k)
		if err != nil {
			return 0, err
		}
		if state.Exists() {
			if fresh {
				return 0, apistorage.NewKeyExistsError(prepared, 0)
			}
			if err := s.catchUp(ctx); err != nil { // it may have been deleted elsewhere
				return 0, err
			}
			continue
		}
		seq, err := s.appendCreation(ctx, state, prepared, data, doc)
		if !errors.Is(err, errConflict) {
			return seq, err
		}
		if err := rounds.next(ctx, s); err != nil {
			return 0, err
		}
	}
}

func (s *store) appendCreation(ctx context.Context, state events.State, prepared string, data []byte, doc document) (events.Sequence, error) {
	e := s.event(ctx, statement{class: events.Desired, key: state.Key, kind: kindOf(s.resource, doc), verb: events.Created,
		uid: doc.uid(state.Key), node: nodeOf(state.Key, doc), object: data})
	return s.append(ctx, e, events.ExpectClass(e.Subject, state.Desired), prepared)
}
