package storage

import (
	"bytes"
	"context"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/apis/example"
	apistorage "k8s.io/apiserver/pkg/storage"
	storagetesting "k8s.io/apiserver/pkg/storage/testing"
	"k8s.io/apiserver/pkg/storage/value"

	"github.com/orlog-io/orlog/projections"
)

// TestUpstream runs upstream's acceptance suite (k8s.io/apiserver/pkg/storage/testing), as etcd3 runs it. What is
// left out, and why, is in leftOut; RunTestOptionalWatchBookmarksWithCorrectResourceVersion, a feature of the
// watch cache, is run behind it, in cacher_test.go.
func TestUpstream(t *testing.T) {
	type run = func(ctx context.Context, t *testing.T, s *store)
	plain := func(f func(context.Context, *testing.T, apistorage.Interface)) run {
		return func(ctx context.Context, t *testing.T, s *store) { f(ctx, t, s) }
	}
	increase := func(s *store) storagetesting.IncreaseRVFunc {
		return func(ctx context.Context, t *testing.T) int64 { return int64(s.bump(ctx, t)) }
	}
	for name, f := range map[string]run{
		"Create": func(ctx context.Context, t *testing.T, s *store) {
			storagetesting.RunTestCreate(ctx, t, s, checkStored(s))
		},
		"CreateWithTTL":                     plain(storagetesting.RunTestCreateWithTTL),
		"CreateWithKeyExist":                plain(storagetesting.RunTestCreateWithKeyExist),
		"Get":                               plain(storagetesting.RunTestGet),
		"UnconditionalDelete":               plain(storagetesting.RunTestUnconditionalDelete),
		"ConditionalDelete":                 plain(storagetesting.RunTestConditionalDelete),
		"DeleteWithSuggestion":              plain(storagetesting.RunTestDeleteWithSuggestion),
		"DeleteWithSuggestionAndConflict":   plain(storagetesting.RunTestDeleteWithSuggestionAndConflict),
		"DeleteWithConflict":                plain(storagetesting.RunTestDeleteWithConflict),
		"DeleteWithSuggestionOfDeleted":     plain(storagetesting.RunTestDeleteWithSuggestionOfDeletedObject),
		"ValidateDeletionWithSuggestion":    plain(storagetesting.RunTestValidateDeletionWithSuggestion),
		"ValidateDeletionWithOnlySuggested": plain(storagetesting.RunTestValidateDeletionWithOnlySuggestionValid),
		"PreconditionalDeleteSuggestion":    plain(storagetesting.RunTestPreconditionalDeleteWithSuggestion),
		"PreconditionalDeleteOnlySuggested": plain(storagetesting.RunTestPreconditionalDeleteWithOnlySuggestionPass),
		"List": func(ctx context.Context, t *testing.T, s *store) {
			c := &compacted{store: s}
			storagetesting.RunTestList(ctx, t, c, c.compact, false, nil)
		},
		"ConsistentList": func(ctx context.Context, t *testing.T, s *store) {
			storagetesting.RunTestConsistentList(ctx, t, s, increase(s), false, true, false)
		},
		"Stats": func(ctx context.Context, t *testing.T, s *store) {
			storagetesting.RunTestStats(ctx, t, s, s.codec, trimmer{}, false)
		},
		"StatsWithSizes": func(ctx context.Context, t *testing.T, s *store) {
			if err := s.EnableResourceSizeEstimation(func(context.Context) ([]string, error) { return nil, nil }); err != nil {
				t.Fatal(err)
			}
			storagetesting.RunTestStats(ctx, t, s, s.codec, trimmer{}, true)
		},
		"ListPaging": plain(storagetesting.RunTestListPaging),
		"GetListNonRecursive": func(ctx context.Context, t *testing.T, s *store) {
			storagetesting.RunTestGetListNonRecursive(ctx, t, increase(s), s)
		},
		"GetListRecursivePrefix": plain(storagetesting.RunTestGetListRecursivePrefix),
		"ListContinuation": func(ctx context.Context, t *testing.T, s *store) {
			storagetesting.RunTestListContinuation(ctx, t, s, func(*testing.T, uint64, uint64) {})
		},
		"ListPaginationRareObject": func(ctx context.Context, t *testing.T, s *store) {
			storagetesting.RunTestListPaginationRareObject(ctx, t, s, func(*testing.T, uint64, uint64) {})
		},
		"ListContinuationWithFilter": func(ctx context.Context, t *testing.T, s *store) {
			storagetesting.RunTestListContinuationWithFilter(ctx, t, s, func(*testing.T, uint64, uint64) {})
		},
		"NamespaceScopedList":                   plain(storagetesting.RunTestNamespaceScopedList),
		"GuaranteedUpdateWithTTL":               plain(storagetesting.RunTestGuaranteedUpdateWithTTL),
		"GuaranteedUpdateWithConflict":          plain(storagetesting.RunTestGuaranteedUpdateWithConflict),
		"GuaranteedUpdateSuggestionAndConflict": plain(storagetesting.RunTestGuaranteedUpdateWithSuggestionAndConflict),

		"Watch":                    plain(storagetesting.RunTestWatch),
		"ClusterScopedWatch":       plain(storagetesting.RunTestClusterScopedWatch),
		"NamespaceScopeWatch":      plain(storagetesting.RunTestNamespaceScopedWatch),
		"DeleteTriggerWatch":       plain(storagetesting.RunTestDeleteTriggerWatch),
		"WatchFromNonZero":         plain(storagetesting.RunTestWatchFromNonZero),
		"DelayedWatchDelivery":     plain(storagetesting.RunTestDelayedWatchDelivery),
		"WatchContextCancel":       plain(storagetesting.RunTestWatchContextCancel),
		"WatcherTimeout":           plain(storagetesting.RunTestWatcherTimeout),
		"WatchDeleteEventLatestRV": plain(storagetesting.RunTestWatchDeleteEventObjectHaveLatestRV),
		"WatchInitializationSign":  plain(storagetesting.RunTestWatchInitializationSignal),
		"ProgressNotify": func(ctx context.Context, t *testing.T, s *store) {
			storagetesting.RunOptionalTestProgressNotify(ctx, t, s, increase(s))
		},
		"WatchDispatchBookmarkEvents": func(ctx context.Context, t *testing.T, s *store) {
			storagetesting.RunTestWatchDispatchBookmarkEvents(ctx, t, s, false)
		},
		"SendInitialEventsCompatibility": plain(storagetesting.RunSendInitialEventsBackwardCompatibility),
		"WatchSemantics":                 plain(storagetesting.RunWatchSemantics),
		"WatchSemanticInitialExtended":   plain(storagetesting.RunWatchSemanticInitialEventsExtended),
		"WatchListMatchSingle":           plain(storagetesting.RunWatchListMatchSingle),
	} {
		t.Run(name, func(t *testing.T) {
			ctx, s := setup(t)
			f(ctx, t, s)
		})
	}
}

// trimmer does to encoded objects what the store does: it takes off the line break.
type trimmer struct{ value.Transformer }

func (trimmer) TransformToStorage(_ context.Context, data []byte, _ value.Context) ([]byte, error) {
	return bytes.TrimSpace(data), nil
}

// compacted answers exact reads before a revision as etcd does once it has compacted, because RunTestList
// cannot be had without; everything else is the store's.
type compacted struct {
	*store
	floor uint64
}

func (c *compacted) compact(ctx context.Context, t *testing.T, resourceVersion string) {
	floor, err := c.versioner.ParseResourceVersion(resourceVersion)
	if err != nil {
		t.Fatal(err)
	}
	c.floor = floor
	c.bump(ctx, t) // as etcd's compaction does
}

func (c *compacted) GetList(ctx context.Context, key string, opts apistorage.ListOptions, out runtime.Object) error {
	if exactly, after, err := apistorage.ValidateListOptions(c.prefix, c.versioner, opts); err == nil && exactly > 0 && uint64(exactly) < c.floor {
		if opts.Predicate.Continue != "" {
			return inconsistentContinue(after, c.prefix)
		}
		return apierrors.NewResourceExpired(expiredList)
	}
	return c.store.GetList(ctx, key, opts, out)
}

// checkStored looks at what the log holds.
func checkStored(s *store) storagetesting.KeyValidation {
	return func(ctx context.Context, t *testing.T, key string) {
		t.Helper()
		k, _, err := s.writable(key)
		if err != nil {
			t.Fatal(err)
		}
		state, err := s.cursor(k)
		if err != nil {
			t.Fatal(err)
		}
		obj := &example.Pod{}
		if _, _, err := s.codec.Decode(state.Object, nil, obj); err != nil {
			t.Fatal(err)
		}
		if obj.ResourceVersion != "" || obj.SelfLink != "" {
			t.Errorf("stored object has resourceVersion %q and selfLink %q", obj.ResourceVersion, obj.SelfLink)
		}
	}
}

// TestUpstreamVolatile runs what needs compaction on a projection without history, which forgets the past
// for good when it is opened anew.
func TestUpstreamVolatile(t *testing.T) {
	t.Run("WatchFromZero", func(t *testing.T) {
		ctx, dir, log := context.Background(), t.TempDir(), newVolatileLog(t)
		b, stop := followIn(t, dir, log, projections.Options{})
		if err := EnsureFirst(ctx, b); err != nil {
			t.Fatal(err)
		}
		s := pods(t, b)
		storagetesting.RunTestWatchFromZero(ctx, t, s, func(ctx context.Context, t *testing.T, _ string) {
			stop()
			b, _ := followIn(t, dir, log, projections.Options{})
			s.proj = b.Store
		})
	})
	t.Run("GuaranteedUpdateWithConflict", func(t *testing.T) {
		ctx, s := setupVolatile(t)
		storagetesting.RunTestGuaranteedUpdateWithConflict(ctx, t, s)
	})
	t.Run("ConditionalDelete", func(t *testing.T) {
		ctx, s := setupVolatile(t)
		storagetesting.RunTestConditionalDelete(ctx, t, s)
	})
	t.Run("WatchSemantics", func(t *testing.T) {
		ctx, s := setupVolatile(t)
		storagetesting.RunWatchSemantics(ctx, t, s)
	})
}
