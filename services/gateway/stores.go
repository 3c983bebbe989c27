package gateway

import (
	"context"
	"fmt"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/apiserver/pkg/registry/generic"
	"k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/cacher"
	"k8s.io/apiserver/pkg/storage/storagebackend"
	"k8s.io/apiserver/pkg/storage/storagebackend/factory"
	"k8s.io/client-go/tools/cache"

	logstorage "github.com/orlog-io/orlog/services/gateway/storage"
)

// coordination is the API group whose objects (Leases) are volatile: renewed every few seconds, of interest
// only now, and kept out of the audit log.
const coordination = "coordination.k8s.io"

// stores gives every resource its storage: the log, behind upstream's watch cache.
type stores struct {
	durable, volatile logstorage.Backend
}

// storesGetter takes codecs, prefixes and options from upstream's getter, and the storage from us.
type storesGetter struct {
	inner  generic.RESTOptionsGetter
	stores *stores
	codec  runtime.Codec // nil: the inner getter's
}

func (s *stores) wrap(inner generic.RESTOptionsGetter) *storesGetter {
	return &storesGetter{inner: inner, stores: s}
}

// uncached are resources that are written much and watched little.
var uncached = map[schema.GroupResource]bool{
	{Resource: "events"}:                         true,
	{Group: "events.k8s.io", Resource: "events"}: true,
}

// GetRESTOptions implements generic.RESTOptionsGetter.
func (g *storesGetter) GetRESTOptions(resource schema.GroupResource, example runtime.Object) (generic.RESTOptions, error) {
	o, err := g.inner.GetRESTOptions(resource, example)
	if err != nil {
		return o, err
	}
	if g.codec != nil {
		o.StorageConfig.Codec = g.codec
	}
	o.Decorator = g.stores.decorate
	return o, nil
}

// decorate is the generic.StorageDecorator: it makes one resource's storage.
func (s *stores) decorate(config *storagebackend.ConfigForResource, prefix string, keyFunc func(runtime.Object) (string, error),
	newFunc, newListFunc func() runtime.Object, attrs storage.AttrFunc, triggers storage.IndexerFuncs, indexers *cache.Indexers,
) (storage.Interface, factory.DestroyFunc, error) {
	backend, volatile := s.durable, config.GroupResource.Group == coordination
	if volatile {
		backend = s.volatile
	}
	raw, destroy, err := logstorage.New(backend, logstorage.Config{Resource: config.GroupResource, Codec: config.Codec,
		NewFunc: newFunc, NewListFunc: newListFunc, Prefix: prefix})
	if err != nil {
		return nil, nil, fmt.Errorf("gateway: storage of %s: %w", config.GroupResource, err)
	}
	if uncached[config.GroupResource] {
		return &pastReader{raw, raw, volatile, config.GroupResource}, destroy, nil
	}
	c, err := cacher.NewCacherFromConfig(cacher.Config{Storage: raw, Versioner: storage.APIObjectVersioner{},
		GroupResource: config.GroupResource, EventsHistoryWindow: config.EventsHistoryWindow, ResourcePrefix: prefix,
		KeyFunc: keyFunc, NewFunc: newFunc, NewListFunc: newListFunc, GetAttrsFunc: attrs, IndexerFuncs: triggers,
		Indexers: indexers, Codec: config.Codec})
	if err != nil {
		destroy()
		return nil, nil, fmt.Errorf("gateway: watch cache of %s: %w", config.GroupResource, err)
	}
	delegator := cacher.NewCacheDelegator(c, raw)
	stop := sync.OnceFunc(func() {
		delegator.Stop()
		c.Stop()
		destroy()
	})
	return &pastReader{delegator, raw, volatile, config.GroupResource}, stop, nil
}

// pastReader sends reads as of the past to the log's own storage: the watch cache holds only the present.
type pastReader struct {
	storage.Interface // the cached one
	raw               storage.Interface
	volatile          bool
	resource          schema.GroupResource
}

func (p *pastReader) reader(ctx context.Context) (storage.Interface, error) {
	at, past := sequenceFrom(ctx)
	switch {
	case !past:
		return p.Interface, nil
	case p.volatile:
		return nil, apierrors.NewBadRequest(fmt.Sprintf("%s have no past: they are heartbeats, kept out of the log; there is nothing to read at %d", p.resource, at))
	}
	return p.raw, nil
}

// Get implements storage.Interface.
func (p *pastReader) Get(ctx context.Context, key string, o storage.GetOptions, out runtime.Object) error {
	r, err := p.reader(ctx)
	if err != nil {
		return err
	}
	return r.Get(ctx, key, o, out)
}

// GetList implements storage.Interface.
func (p *pastReader) GetList(ctx context.Context, key string, o storage.ListOptions, out runtime.Object) error {
	r, err := p.reader(ctx)
	if err != nil {
		return err
	}
	return r.GetList(ctx, key, o, out)
}

// Watch implements storage.Interface.
func (p *pastReader) Watch(ctx context.Context, key string, o storage.ListOptions) (watch.Interface, error) {
	r, err := p.reader(ctx)
	if err != nil {
		return nil, err
	}
	w, err := r.Watch(ctx, key, o)
	if err != nil || r == p.raw {
		return w, err
	}
	w, expired := unlessExpired(w)
	if expired { // for the cache, which begins when the gateway does and holds a window; not for the log
		return p.raw.Watch(ctx, key, o)
	}
	return w, nil
}

// unlessExpired reports whether a watch of the cache is over before it began, as the cache does not reach back
// that far. The cache says so with a watch whose channel holds that one error and has room for no more; the
// channel of a watch that goes on is larger, and is not looked into.
func unlessExpired(w watch.Interface) (_ watch.Interface, expired bool) {
	results := w.ResultChan()
	if cap(results) != 1 || len(results) != 1 {
		return w, false
	}
	only := <-results
	if only.Type == watch.Error && apierrors.IsResourceExpired(apierrors.FromObject(only.Object)) {
		w.Stop()
		return nil, true
	}
	again := make(chan watch.Event, 1)
	again <- only
	close(again)
	return watch.NewProxyWatcher(again), false
}
