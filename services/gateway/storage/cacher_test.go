package storage

import (
	"context"
	"testing"
	"time"

	"go.uber.org/goleak"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/apis/example"
	apistorage "k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/cacher"
	etcdfeature "k8s.io/apiserver/pkg/storage/feature"
	storagetesting "k8s.io/apiserver/pkg/storage/testing"
)

// progressSupported is what the gateway sets: see services/gateway/globals.go.
type progressSupported struct {
	etcdfeature.FeatureSupportChecker
}

func (progressSupported) Supports(apistorage.Feature) bool { return true }

func TestMain(m *testing.M) {
	etcdfeature.DefaultFeatureSupportChecker = progressSupported{etcdfeature.DefaultFeatureSupportChecker}
	goleak.VerifyTestMain(m)
}

// cached puts upstream's watch cache before a store, as the gateway does.
func cached(t testing.TB, s *store) *cacher.CacheDelegator {
	t.Helper()
	c, err := cacher.NewCacherFromConfig(cacher.Config{
		Storage: s, Versioner: s.versioner, GroupResource: s.resource, EventsHistoryWindow: cacher.DefaultEventFreshDuration,
		ResourcePrefix: "/pods/",
		KeyFunc: func(obj runtime.Object) (string, error) {
			pod := obj.(*example.Pod)
			return "/pods/" + pod.Namespace + "/" + pod.Name, nil
		},
		GetAttrsFunc: func(obj runtime.Object) (labels.Set, fields.Set, error) {
			pod := obj.(*example.Pod)
			return pod.Labels, fields.Set{"metadata.name": pod.Name, "metadata.namespace": pod.Namespace, "spec.nodeName": pod.Spec.NodeName}, nil
		},
		NewFunc: s.newObject, NewListFunc: s.newList, Codec: s.codec,
	})
	if err != nil {
		t.Fatal(err)
	}
	d := cacher.NewCacheDelegator(c, s)
	t.Cleanup(func() {
		d.Stop()
		c.Stop()
	})
	if err := c.Wait(context.Background()); err != nil {
		t.Fatal(err)
	}
	return d
}

func TestUpstreamBehindTheWatchCache(t *testing.T) {
	for name, f := range map[string]func(ctx context.Context, t *testing.T, s *store, c *cacher.CacheDelegator){
		"ConsistentList": func(ctx context.Context, t *testing.T, s *store, c *cacher.CacheDelegator) {
			storagetesting.RunTestConsistentList(ctx, t, c, func(ctx context.Context, t *testing.T) int64 { return int64(s.bump(ctx, t)) }, true, true, true)
		},
		"GetListNonRecursive": func(ctx context.Context, t *testing.T, s *store, c *cacher.CacheDelegator) {
			storagetesting.RunTestGetListNonRecursive(ctx, t, func(ctx context.Context, t *testing.T) int64 { return int64(s.bump(ctx, t)) }, c)
		},
		"GetListRecursivePrefix": func(ctx context.Context, t *testing.T, _ *store, c *cacher.CacheDelegator) {
			storagetesting.RunTestGetListRecursivePrefix(ctx, t, c)
		},
		"NamespaceScopedList": func(ctx context.Context, t *testing.T, _ *store, c *cacher.CacheDelegator) {
			storagetesting.RunTestNamespaceScopedList(ctx, t, c)
		},
		"ListContinuation": func(ctx context.Context, t *testing.T, _ *store, c *cacher.CacheDelegator) {
			storagetesting.RunTestListContinuation(ctx, t, c, func(*testing.T, uint64, uint64) {})
		},
		"Watch": func(ctx context.Context, t *testing.T, _ *store, c *cacher.CacheDelegator) {
			storagetesting.RunTestWatch(ctx, t, c)
		},
		"WatchSemantics": func(ctx context.Context, t *testing.T, _ *store, c *cacher.CacheDelegator) {
			storagetesting.RunWatchSemantics(ctx, t, c)
		},
		"Bookmarks": func(ctx context.Context, t *testing.T, _ *store, c *cacher.CacheDelegator) {
			storagetesting.RunTestOptionalWatchBookmarksWithCorrectResourceVersion(ctx, t, c)
		},
		"DeleteWithSuggestionAndConflict": func(ctx context.Context, t *testing.T, _ *store, c *cacher.CacheDelegator) {
			storagetesting.RunTestDeleteWithSuggestionAndConflict(ctx, t, c)
		},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, s := setup(t)
			f(ctx, t, s, cached(t, s))
		})
	}
}

// A consistent list from the cache must not wait for the cache's own poll, which is every 100 ms: after
// events about other resources only a bookmark can tell the cache that it is fresh.
func TestConsistentListAfterForeignWritesIsQuick(t *testing.T) {
	ctx, s := setup(t)
	s.progress.interval = time.Hour
	c := cached(t, s)
	var took time.Duration
	const lists = 20
	for range lists {
		seq := s.bump(ctx, t)
		begun := time.Now()
		list := &example.PodList{}
		if err := c.GetList(ctx, "/pods/", apistorage.ListOptions{Recursive: true, Predicate: apistorage.Everything}, list); err != nil {
			t.Fatal(err)
		}
		took += time.Since(begun)
		if rv, err := s.versioner.ParseResourceVersion(list.ResourceVersion); err != nil || rv < uint64(seq) {
			t.Fatalf("list at %s after event %d", list.ResourceVersion, seq)
		}
	}
	if took/lists > 50*time.Millisecond {
		t.Errorf("a list took %s", took/lists)
	}
	t.Logf("a consistent list took %s", took/lists)
}
