package storage

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/conversion"
	apiruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/features"
	apistorage "k8s.io/apiserver/pkg/storage"
	utilfeature "k8s.io/apiserver/pkg/util/feature"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/projections"
)

// GetList implements storage.Interface.
func (s *store) GetList(ctx context.Context, key string, opts apistorage.ListOptions, out apiruntime.Object) error {
	where, err := s.span(key, opts.Recursive)
	if err != nil {
		return err
	}
	items, newItem, err := itemsOf(out)
	if err != nil {
		return err
	}
	exactly, after, err := apistorage.ValidateListOptions(where.prefix, s.versioner, opts)
	if err != nil {
		return err
	}
	atLeast, err := s.minimum(opts.ResourceVersion)
	if err != nil {
		return err
	}
	view, err := s.view(ctx, events.Sequence(exactly), atLeast)
	if err != nil {
		if apierrors.IsResourceExpired(err) && opts.Predicate.Continue != "" {
			return inconsistentContinue(after, where.prefix)
		}
		return err
	}
	defer view.Close()
	states, err := s.states(view, where, strings.TrimPrefix(after, s.prefix))
	if err != nil {
		return s.failure("list", where.prefix, err)
	}
	taken, err := s.fill(ctx, items, newItem, states, opts.Predicate)
	if err != nil {
		return err
	}
	return s.finishList(out, view.Sequence(), where, states, taken, opts)
}

// finishList sets the list's revision and, where states remain after those taken, the continue token.
func (s *store) finishList(out apiruntime.Object, at events.Sequence, where span, states []events.State, taken int, opts apistorage.ListOptions) error {
	var last string
	if taken > 0 {
		last = s.storageKey(states[taken-1].Key)
	}
	token, remaining, err := apistorage.PrepareContinueToken(last, where.prefix, int64(at), int64(len(states)), taken < len(states), opts)
	if err != nil {
		return err
	}
	if err := s.versioner.UpdateList(out, uint64(at), token, remaining); err != nil {
		return err
	}
	if utilfeature.DefaultFeatureGate.Enabled(features.ShardedListAndWatch) {
		opts.Predicate.SetShardInfoOnList(out)
	}
	return nil
}

// inconsistentContinue is what upstream answers where the past that a continue token pins is gone.
func inconsistentContinue(after, prefix string) error {
	token, err := apistorage.EncodeContinue(after, prefix, -1)
	if err != nil {
		return apierrors.NewResourceExpired(expiredList)
	}
	expired := apierrors.NewResourceExpired(expiredContinue)
	expired.ErrStatus.ListMeta.Continue = token
	return expired
}

// itemsOf gives a list's items to append to, and what makes one.
func itemsOf(list apiruntime.Object) (reflect.Value, func() apiruntime.Object, error) {
	ptr, err := meta.GetItemsPtr(list)
	if err != nil {
		return reflect.Value{}, nil, err
	}
	items, err := conversion.EnforcePtr(ptr)
	if err != nil || items.Kind() != reflect.Slice {
		return reflect.Value{}, nil, fmt.Errorf("need ptr to slice: %w", err)
	}
	if u, ok := list.(*unstructured.UnstructuredList); ok && u.GetAPIVersion() != "" {
		version := u.GetAPIVersion()
		return items, func() apiruntime.Object {
			return &unstructured.Unstructured{Object: map[string]any{"apiVersion": version}}
		}, nil
	}
	elem := items.Type().Elem()
	return items, func() apiruntime.Object { return reflect.New(elem).Interface().(apiruntime.Object) }, nil
}

// states reads the living objects of a span in the order of their storage keys, which is not that of the
// projection ("a-b/x" is before "a/x", though "a" is before "a-b"); the watch cache uses it too, and a list
// may be continued there. after, "namespace/name", is where to begin.
func (s *store) states(view *projections.View, where span, after string) ([]events.State, error) {
	if where.nothing {
		return nil, nil
	}
	if where.one != nil {
		state, ok, err := view.Get(*where.one)
		if err != nil || !ok {
			return nil, err
		}
		return []events.State{state}, nil
	}
	from := ""
	if where.selector.Namespace != "" {
		from = after // within one namespace both orders are the same
	}
	var out []events.State
	for state, err := range view.List(where.selector, from) {
		if err != nil {
			return nil, err
		}
		if after == "" || relative(state.Key) >= after {
			out = append(out, state)
		}
	}
	byKey := func(a, b events.State) int { return strings.Compare(relative(a.Key), relative(b.Key)) }
	if where.selector.Namespace == "" && !slices.IsSortedFunc(out, byKey) {
		slices.SortFunc(out, byKey)
	}
	return out, nil
}

// decodeBatch is how many states are decoded, side by side, before the limit of the list is looked at.
const decodeBatch = 256

// fill decodes states in turn and appends those that the predicate matches, until its limit. It returns how
// many states were looked at.
func (s *store) fill(ctx context.Context, items reflect.Value, newItem func() apiruntime.Object, states []events.State, pred apistorage.SelectionPredicate) (int, error) {
	if items.IsNil() {
		size := len(states)
		if !pred.Empty() || pred.Limit > 0 {
			size = 0
		}
		items.Set(reflect.MakeSlice(items.Type(), 0, size))
	}
	limit := int(pred.Limit)
	for taken := 0; taken < len(states); {
		if ctx.Err() != nil {
			return 0, apistorage.NewTimeoutError(s.storageKey(states[taken].Key), "request did not complete within requested timeout")
		}
		size := min(decodeBatch, len(states)-taken)
		if limit > 0 && pred.Empty() {
			size = min(size, limit-items.Len())
		}
		objs, err := s.decodeAll(states[taken:taken+size], newItem)
		if err != nil {
			return 0, err
		}
		for _, obj := range objs {
			taken++
			// An object whose attributes cannot be had does not match, as in etcd3.
			if matched, err := pred.Matches(obj); err != nil || !matched {
				continue
			}
			items.Set(reflect.Append(items, reflect.ValueOf(obj).Elem()))
			if limit > 0 && items.Len() >= limit {
				return taken, nil
			}
		}
	}
	return len(states), nil
}

// decodeAll decodes states on all processors; the order stays.
func (s *store) decodeAll(states []events.State, newItem func() apiruntime.Object) ([]apiruntime.Object, error) {
	out, errs := make([]apiruntime.Object, len(states)), make([]error, len(states))
	parallel(len(states), func(i int) {
		out[i], errs[i] = s.decodeInto(states[i].Object, newItem(), states[i].Revision)
	})
	for i, err := range errs {
		if err != nil {
			return nil, fmt.Errorf("decoding %s: %w", s.storageKey(states[i].Key), err)
		}
	}
	return out, nil
}
