package storage

import (
	"context"
	"errors"
	"fmt"

	"k8s.io/apimachinery/pkg/conversion"
	"k8s.io/apimachinery/pkg/runtime"
	apistorage "k8s.io/apiserver/pkg/storage"

	"github.com/orlog-io/orlog/events"
)

// Delete implements storage.Interface: one desired event with verb deleted and the last state, guarded by
// the newest event of either class. out is the last state with the deletion's revision.
//
// IgnoreStoreReadError is not heeded: nothing but JSON that the codec wrote gets into the log.
func (s *store) Delete(ctx context.Context, key string, out runtime.Object, pre *apistorage.Preconditions,
	validate apistorage.ValidateObjectFunc, cached runtime.Object, _ apistorage.DeleteOptions) error {
	k, prepared, err := s.writable(key)
	if err != nil {
		return err
	}
	if err := refusePast(ctx, "delete"); err != nil {
		return err
	}
	into, err := conversion.EnforcePtr(out)
	if err != nil {
		return fmt.Errorf("unable to convert output object to pointer: %w", err)
	}
	reload := func() (current, error) { return s.reload(ctx, k, prepared, into, false) }
	var rounds contention
	cur, err := s.load(ctx, k, prepared, into, cached, false)
	for err == nil {
		if refusal := mayDelete(ctx, prepared, pre, validate, cur.obj); refusal != nil {
			if cur.fresh {
				return refusal
			}
			was := cur.revision()
			if cur, err = reload(); err == nil && cur.revision() == was {
				return refusal
			}
			continue
		}
		var seq events.Sequence
		seq, err = s.appendDeletion(ctx, cur.state, cur.doc, prepared)
		if err == nil {
			s.settle(ctx, k, seq)
			return s.decode(cur.state.Object, out, seq)
		}
		if !errors.Is(err, errConflict) {
			return err
		}
		if err = rounds.next(ctx, s); err == nil {
			cur, err = reload()
		}
	}
	return err
}

func mayDelete(ctx context.Context, prepared string, pre *apistorage.Preconditions, validate apistorage.ValidateObjectFunc, obj runtime.Object) error {
	if err := pre.Check(prepared, obj); err != nil {
		return err
	}
	return validate(ctx, obj)
}

func (s *store) appendDeletion(ctx context.Context, state events.State, doc document, prepared string) (events.Sequence, error) {
	e := s.event(ctx, statement{class: events.Desired, key: state.Key, kind: kindOf(s.resource, doc), verb: events.Deleted,
		uid: state.UID, node: state.Node, object: state.Object})
	return s.append(ctx, e, events.ExpectObject(e.Subject, state.Newest()), prepared)
}
