package storage

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	apistorage "k8s.io/apiserver/pkg/storage"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/projections"
)

// Backend is a log and this process's projection of it. The caller runs Store.Follow on Log for as long as
// the storage is used, and closes both afterwards.
type Backend struct {
	Log   events.Log
	Store *projections.Store
}

// Config describes one resource.
type Config struct {
	// Resource names the events: its group and plural are those of events.Key.
	Resource schema.GroupResource
	// Prefix begins the resource's keys, "/pods". A "/" is added at the end where there is none.
	Prefix string
	// Codec must encode JSON (storage media type application/json).
	Codec runtime.Codec
	// NewFunc makes an empty object of the internal type, NewListFunc an empty list.
	NewFunc, NewListFunc func() runtime.Object
	// Versioner defaults to storage.APIObjectVersioner.
	Versioner apistorage.Versioner
	// ProgressInterval is how often an idle watch with ProgressNotify hears how far it has come when nobody asks for
	// that. Default 1 min: each time concerns all who watch through the API server's cache, and a resourceVersion does
	// not become too old.
	ProgressInterval time.Duration
	// Logger defaults to slog.Default().
	Logger *slog.Logger
}

// store is one resource's storage.Interface.
type store struct {
	log       events.Log
	proj      *projections.Store
	resource  schema.GroupResource
	prefix    string
	codec     runtime.Codec
	newObject func() runtime.Object
	newList   func() runtime.Object
	versioner apistorage.Versioner
	logger    *slog.Logger

	written  written
	progress progress
	expiry   expiry
	sized    atomic.Bool
	unfit    atomic.Uint64 // the revision whose status was last said not to fit

	// life ends with destroy; work counts the goroutines that run under it. starting keeps one from
	// beginning while destroy waits.
	life     context.Context
	end      context.CancelFunc
	starting sync.Mutex
	work     sync.WaitGroup
}

var _ apistorage.Interface = (*store)(nil)

// New makes the storage of one resource. destroy stops its background work (the expiry of objects with a
// TTL, and watches that nobody stopped) and may be called more than once.
func New(b Backend, c Config) (_ apistorage.Interface, destroy func(), _ error) {
	for _, f := range []struct {
		name    string
		missing bool
	}{
		{"backend: log", b.Log == nil}, {"backend: store", b.Store == nil}, {"config: codec", c.Codec == nil},
		{"config: resource", c.Resource.Resource == ""}, {"config: prefix", strings.Trim(c.Prefix, "/") == ""},
		{"config: new function", c.NewFunc == nil}, {"config: new list function", c.NewListFunc == nil},
	} {
		if f.missing {
			return nil, nil, fmt.Errorf("storage of %s: %s is required", c.Resource, f.name)
		}
	}
	if c.Versioner == nil {
		c.Versioner = apistorage.APIObjectVersioner{}
	}
	if c.ProgressInterval <= 0 {
		c.ProgressInterval = time.Minute
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	s := &store{
		log: b.Log, proj: b.Store, resource: c.Resource, prefix: "/" + strings.Trim(c.Prefix, "/") + "/", codec: c.Codec,
		newObject: c.NewFunc, newList: c.NewListFunc, versioner: c.Versioner,
		logger: c.Logger.With("resource", c.Resource.String()),
	}
	s.progress.interval = c.ProgressInterval
	s.life, s.end = context.WithCancel(context.Background())
	return s, s.destroy, nil
}

func (s *store) destroy() {
	s.starting.Lock()
	s.end()
	s.starting.Unlock()
	s.work.Wait()
}

// start runs f under the store's life. It reports whether the store is alive.
func (s *store) start(f func(ctx context.Context)) bool {
	s.starting.Lock()
	defer s.starting.Unlock()
	if s.life.Err() != nil {
		return false
	}
	s.work.Go(func() { f(s.life) })
	return true
}

// Versioner implements storage.Interface.
func (s *store) Versioner() apistorage.Versioner { return s.versioner }

// ReadinessCheck fails while the projection is empty: a read would have revision 0, which means "any".
func (s *store) ReadinessCheck() error {
	if s.proj.Position() == 0 {
		return apistorage.ErrStorageNotReady
	}
	return nil
}

// CompactRevision is 0: history is kept for ever. (A projection without history never had any to compact.)
func (s *store) CompactRevision() int64 { return 0 }

// GetCurrentResourceVersion is the log's last sequence, and makes watches that carry progress say so as soon
// as they are there: the watch cache waits for exactly that before it answers a consistent read.
func (s *store) GetCurrentResourceVersion(ctx context.Context) (uint64, error) {
	last, err := s.last(ctx)
	if err != nil {
		return 0, err
	}
	if last == 0 {
		return 0, fmt.Errorf("storage of %s: the log is empty: call EnsureFirst before serving", s.resource)
	}
	s.requestProgress(last)
	return uint64(last), nil
}

// RequestWatchProgress makes watches that carry progress say how far they have come.
func (s *store) RequestWatchProgress(ctx context.Context) error {
	if err := refusePast(ctx, "watch progress"); err != nil {
		return err
	}
	s.requestProgress(s.proj.Position())
	return nil
}

// Stats counts the objects by reading them all; upstream asks about once a minute.
func (s *store) Stats(ctx context.Context) (apistorage.Stats, error) {
	view, err := s.present(ctx, 0)
	if err != nil {
		return apistorage.Stats{}, err
	}
	defer view.Close()
	var stats apistorage.Stats
	var bytes int64
	for state, err := range view.List(projections.Selector{Group: s.resource.Group, Resource: s.resource.Resource}, "") {
		if err != nil {
			return apistorage.Stats{}, s.failure("stats", s.prefix, err)
		}
		stats.ObjectCount++
		bytes += int64(len(state.Object))
	}
	if s.sized.Load() && stats.ObjectCount > 0 {
		stats.EstimatedAverageObjectSizeBytes = bytes / stats.ObjectCount
	}
	return stats, nil
}

// EnableResourceSizeEstimation makes Stats report sizes. The keys are not needed: the projection knows.
func (s *store) EnableResourceSizeEstimation(keys apistorage.KeysFunc) error {
	if keys == nil {
		return errors.New("KeysFunc cannot be nil")
	}
	if !s.sized.CompareAndSwap(false, true) {
		return errors.New("resource size estimation is already enabled")
	}
	return nil
}

// refusePast is the error of a write in a request that travels in time; nil where it does not.
func refusePast(ctx context.Context, what string) error {
	if SequenceFrom(ctx) == 0 {
		return nil
	}
	err := apierrors.NewMethodNotSupported(schema.GroupResource{}, what)
	err.ErrStatus.Message = fmt.Sprintf("%s is not possible as of sequence %d: the past is read-only", what, SequenceFrom(ctx))
	return err
}
