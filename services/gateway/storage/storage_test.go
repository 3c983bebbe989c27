package storage

import (
	"context"
	"sync"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/apitesting"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/apiserver/pkg/apis/example"
	examplev1 "k8s.io/apiserver/pkg/apis/example/v1"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/events/jetstream"
	"github.com/orlog-io/orlog/projections"
)

var (
	scheme = runtime.NewScheme()
	codecs = serializer.NewCodecFactory(scheme)
)

func init() {
	metav1.AddToGroupVersion(scheme, metav1.SchemeGroupVersion)
	utilruntime.Must(example.AddToScheme(scheme))
	utilruntime.Must(examplev1.AddToScheme(scheme))
}

// follow opens a projection of a log that lasts as long as the test.
func follow(t testing.TB, log events.Log, o projections.Options) Backend {
	b, _ := followIn(t, t.TempDir(), log, o)
	return b
}

// followIn is follow in a folder; stop closes the projection before the test ends.
func followIn(t testing.TB, dir string, log events.Log, o projections.Options) (b Backend, stop func()) {
	t.Helper()
	proj, err := projections.Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- proj.Follow(ctx, log) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("follow: %v", err)
		}
		if err := proj.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	t.Cleanup(stop)
	return Backend{Log: log, Store: proj}, stop
}

// newLog opens a new, empty stream of a JetStream server of its own.
func newLog(t testing.TB) events.Log { return openLog(t, (*jetstream.Conn).Log) }

// newVolatileLog opens the stream that keeps only the newest event on each subject.
func newVolatileLog(t testing.TB) events.Log { return openLog(t, (*jetstream.Conn).Volatile) }

func openLog(t testing.TB, open func(*jetstream.Conn, context.Context) (events.Log, error)) events.Log {
	t.Helper()
	server, err := jetstream.StartServer(jetstream.ServerOptions{Dir: t.TempDir(), Port: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Shutdown)
	conn, err := jetstream.Connect(context.Background(), jetstream.Options{URL: server.URL(), Name: "storage"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	log, err := open(conn, context.Background())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := log.Close(); err != nil {
			t.Errorf("closing the log: %v", err)
		}
	})
	return log
}

// pods is the storage of upstream's example pods on a backend.
func pods(t testing.TB, b Backend) *store {
	t.Helper()
	s, destroy, err := New(b, Config{
		Resource: schema.GroupResource{Resource: "pods"}, Prefix: "/pods/",
		Codec:   apitesting.TestCodec(codecs, examplev1.SchemeGroupVersion),
		NewFunc: func() runtime.Object { return &example.Pod{} }, NewListFunc: func() runtime.Object { return &example.PodList{} },
		ProgressInterval: 300 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(destroy)
	return s.(*store)
}

func setup(t testing.TB) (context.Context, *store) {
	t.Helper()
	return setupOn(t, newLog(t), projections.Options{History: true})
}

// setupVolatile is setup for objects without history.
func setupVolatile(t testing.TB) (context.Context, *store) {
	t.Helper()
	return setupOn(t, newVolatileLog(t), projections.Options{})
}

func setupOn(t testing.TB, log events.Log, o projections.Options) (context.Context, *store) {
	t.Helper()
	ctx := context.Background()
	b := follow(t, log, o)
	if err := EnsureFirst(ctx, b); err != nil {
		t.Fatal(err)
	}
	return ctx, pods(t, b)
}

// bump appends an event about something else and returns its sequence.
func (s *store) bump(ctx context.Context, t testing.TB) events.Sequence {
	t.Helper()
	seqs, err := s.log.Append(ctx, events.Entry{Event: events.Event{
		Subject: events.Subject{Class: events.Desired, Key: events.Key{Group: "orlog.io", Resource: "clusters", Name: "other"}},
		Type:    "io.orlog.cluster.updated", Source: "test", Actor: "test", UID: "other", Time: time.Now(), Object: []byte(`{}`),
	}})
	if err != nil {
		t.Fatal(err)
	}
	return seqs[0]
}
