package storage

import (
	"context"
	"errors"
	"fmt"
	"reflect"

	"k8s.io/apimachinery/pkg/conversion"
	"k8s.io/apimachinery/pkg/runtime"
	apistorage "k8s.io/apiserver/pkg/storage"

	"github.com/orlog-io/orlog/events"
)

// current is an object as a write finds it.
type current struct {
	state events.State
	obj   runtime.Object // the zero object where it does not exist
	doc   document
	// fresh: read after the projection had caught up with the log during this call. What a decision on a
	// state that is not fresh refuses is looked at once more.
	fresh bool
}

// revision is the object's resourceVersion, 0 where it does not exist.
func (c current) revision() events.Sequence {
	if !c.state.Exists() {
		return 0
	}
	return c.state.Revision
}

// GuaranteedUpdate implements storage.Interface. cached is only a hint, used where it is the very revision
// that the projection holds.
func (s *store) GuaranteedUpdate(ctx context.Context, key string, out runtime.Object, ignoreNotFound bool,
	pre *apistorage.Preconditions, try apistorage.UpdateFunc, cached runtime.Object) error {
	k, prepared, err := s.writable(key)
	if err != nil {
		return err
	}
	if err := refusePast(ctx, "update"); err != nil {
		return err
	}
	into, err := conversion.EnforcePtr(out)
	if err != nil {
		return fmt.Errorf("unable to convert output object to pointer: %w", err)
	}
	u := update{s: s, key: k, prepared: prepared, into: into, ignoreNotFound: ignoreNotFound, pre: pre, try: try}
	return u.run(ctx, out, cached)
}

// update is one GuaranteedUpdate.
type update struct {
	s              *store
	key            events.Key
	prepared       string
	into           reflect.Value
	ignoreNotFound bool
	pre            *apistorage.Preconditions
	try            apistorage.UpdateFunc
	rounds         contention
}

func (u *update) run(ctx context.Context, out, cached runtime.Object) error {
	cur, err := u.s.load(ctx, u.key, u.prepared, u.into, cached, u.ignoreNotFound)
	for err == nil {
		var again bool
		if again, err = u.attempt(ctx, &cur, out); !again {
			return err
		}
	}
	return err
}

// attempt decides on cur and writes. again: cur was replaced by newer state, and must be decided on.
func (u *update) attempt(ctx context.Context, cur *current, out runtime.Object) (again bool, err error) {
	if err := u.pre.Check(u.prepared, cur.obj); err != nil {
		return u.doubt(ctx, cur, err)
	}
	obj, ttl, err := u.try(cur.obj, apistorage.ResponseMeta{ResourceVersion: uint64(cur.revision())})
	if err != nil {
		return u.doubt(ctx, cur, err)
	}
	data, doc, err := u.s.prepare(obj)
	if err != nil {
		return false, err
	}
	if !cur.state.Exists() {
		seq, err := u.s.appendCreation(ctx, cur.state, u.prepared, data, doc)
		return u.written(ctx, cur, out, data, seq, ttl, err)
	}
	diff := compare(cur.doc, doc)
	if !diff.rest && !diff.status {
		if !cur.fresh {
			was := cur.revision()
			if err := u.refresh(ctx, cur); err != nil || cur.revision() != was {
				return true, err
			}
		}
		return false, u.s.decodeState(cur.state, out)
	}
	seq, err := u.s.appendUpdate(ctx, cur, doc, diff, u.prepared, u.pre)
	return u.written(ctx, cur, out, data, seq, ttl, err)
}

// doubt handles a refusal: it stands if it was about fresh state, or if fresh state is the same.
func (u *update) doubt(ctx context.Context, cur *current, refusal error) (again bool, err error) {
	if cur.fresh {
		return false, refusal
	}
	was := cur.revision()
	if err := u.refresh(ctx, cur); err != nil {
		return false, err
	}
	if cur.revision() == was {
		return false, refusal
	}
	return true, nil
}

func (u *update) refresh(ctx context.Context, cur *current) error {
	next, err := u.s.reload(ctx, u.key, u.prepared, u.into, u.ignoreNotFound)
	*cur = next
	return err
}

// written ends an attempt that appended, with the object as of the event.
func (u *update) written(ctx context.Context, cur *current, out runtime.Object, data []byte, seq events.Sequence, ttl *uint64, err error) (again bool, _ error) {
	if errors.Is(err, errConflict) {
		if err := u.rounds.next(ctx, u.s); err != nil {
			return false, err
		}
		return true, u.refresh(ctx, cur)
	}
	if err != nil {
		return false, err
	}
	u.s.settle(ctx, cur.state.Key, seq)
	if ttl != nil {
		u.s.expire(u.key, seq, *ttl)
	}
	return false, u.s.result(out, data, *cur, seq)
}

// load reads the state that a write first decides on: whatever the projection holds, unless that has no
// object where one is needed.
func (s *store) load(ctx context.Context, k events.Key, prepared string, into reflect.Value, cached runtime.Object, ignoreNotFound bool) (current, error) {
	cur, err := s.read(k, prepared, into, cached, ignoreNotFound)
	if err == nil || !apistorage.IsNotFound(err) {
		return cur, err
	}
	return s.reload(ctx, k, prepared, into, ignoreNotFound)
}

// reload reads an object after catching up with the log.
func (s *store) reload(ctx context.Context, k events.Key, prepared string, into reflect.Value, ignoreNotFound bool) (current, error) {
	if err := s.catchUp(ctx); err != nil {
		return current{}, err
	}
	cur, err := s.read(k, prepared, into, nil, ignoreNotFound)
	cur.fresh = true
	return cur, err
}

// read takes an object from the projection as it is.
func (s *store) read(k events.Key, prepared string, into reflect.Value, cached runtime.Object, ignoreNotFound bool) (current, error) {
	state, err := s.cursor(k)
	if err != nil {
		return current{}, err
	}
	cur := current{state: state}
	if !state.Exists() {
		if !ignoreNotFound {
			return current{}, apistorage.NewKeyNotFoundError(prepared, 0)
		}
		cur.obj = newLike(into)
		return cur, runtime.SetZeroValue(cur.obj)
	}
	if cur.doc, err = parseDocument(state.Object); err != nil {
		return current{}, apistorage.NewCorruptObjError(prepared, err)
	}
	if cached != nil {
		if rv, err := s.versioner.ObjectResourceVersion(cached); err == nil && events.Sequence(rv) == state.Revision {
			cur.obj = cached
			return cur, nil
		}
	}
	cur.obj = newLike(into)
	return cur, s.decodeState(state, cur.obj)
}

// newLike makes an empty object of the type that out points to.
func newLike(out reflect.Value) runtime.Object {
	if u, ok := out.Addr().Interface().(runtime.Unstructured); ok {
		return u.NewEmptyInstance()
	}
	return reflect.New(out.Type()).Interface().(runtime.Object)
}
