package storage

import (
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/apiserver/pkg/apis/example"
	apistorage "k8s.io/apiserver/pkg/storage"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/events/memlog"
	"github.com/orlog-io/orlog/projections"
)

// An append whose outcome is unknown is made once, whether it had failed or not.
func TestUnknownOutcome(t *testing.T) {
	broken := errors.New("broken")
	for name, fault := range map[string]memlog.Fault{"failed": {Before: broken}, "failed but persisted": {After: broken}} {
		t.Run(name, func(t *testing.T) {
			log := memlog.New()
			ctx, s := setupOn(t, log, projections.Options{History: true})
			log.FailNext(fault, fault)
			p := s.mustCreate(t, pod("ns", "p"))
			log.FailNext(fault)
			p = s.mustUpdate(ctx, t, p, func(p *example.Pod) { p.Spec.NodeName = "n" })
			log.FailNext(fault)
			p = s.mustUpdate(ctx, t, p, func(p *example.Pod) { p.Status.Phase = "Running" })
			log.FailNext(fault)
			gone := &example.Pod{}
			if err := s.Delete(ctx, keyOf(p), gone, nil, apistorage.ValidateAllObjectFunc, nil, apistorage.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
			if last, err := log.Last(ctx); err != nil || last != 5 || gone.ResourceVersion != "5" {
				t.Errorf("%v: %d events, deleted at %s; want 5", err, last, gone.ResourceVersion)
			}
		})
	}
}

// Where the log stays away, the registry is told so; nothing has been written.
func TestLogUnavailable(t *testing.T) {
	log := memlog.New()
	ctx, s := setupOn(t, log, projections.Options{History: true})
	s.logger = slog.New(slog.DiscardHandler)
	log.Inject(func([]events.Entry) memlog.Fault { return memlog.Fault{Before: errors.New("away")} })
	if err := s.Create(ctx, "/pods/ns/p", pod("ns", "p"), nil, 0); !apistorage.IsUnreachable(err) {
		t.Errorf("create: %v", err)
	}
	log.Inject(nil)
	s.mustCreate(t, pod("ns", "p"))
}

// A projection that is behind is waited for: by reads, and by writes that it would mislead.
func TestLateProjection(t *testing.T) {
	log := memlog.New()
	ctx, a := setupOn(t, log, projections.Options{History: true})
	b := pods(t, follow(t, log, projections.Options{History: true}))
	if err := b.catchUp(ctx); err != nil {
		t.Fatal(err)
	}
	log.Hold()
	held := make(chan error, 1)
	go func() {
		out := &example.Pod{}
		held <- a.Create(ctx, "/pods/ns/p", pod("ns", "p"), out, 0)
	}()
	for last := events.Sequence(0); last < 2; {
		var err error
		if last, err = log.Last(ctx); err != nil {
			t.Fatal(err)
		}
	}
	results := make(chan error, 3)
	go func() {
		results <- b.Get(ctx, "/pods/ns/p", apistorage.GetOptions{}, &example.Pod{})
	}()
	go func() {
		if err := b.Create(ctx, "/pods/ns/p", pod("ns", "p"), nil, 0); !apistorage.IsExist(err) {
			results <- errors.Join(errors.New("create of what exists"), err)
			return
		}
		results <- nil
	}()
	go func() {
		results <- b.GuaranteedUpdate(ctx, "/pods/ns/p", &example.Pod{}, false, apistorage.NewUIDPreconditions("uid-p"), increaseGrace, nil)
	}()
	select {
	case err := <-results:
		t.Errorf("answered before the projection knew: %v", err)
	case <-time.After(20 * time.Millisecond):
	}
	log.Release()
	for range 3 {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	if err := <-held; err != nil {
		t.Error(err)
	}
}

var increaseGrace = apistorage.UpdateFunc(func(in runtime.Object, _ apistorage.ResponseMeta) (runtime.Object, *uint64, error) {
	p := in.(*example.Pod).DeepCopy()
	p.Spec.Hostname += "x"
	return p, nil, nil
})

// Objects with a time to live that an earlier process wrote expire once anything is written with one.
func TestExpiryAfterRestart(t *testing.T) {
	log := memlog.New()
	ctx, s := setupOn(t, log, projections.Options{History: true})
	old := s.mustCreate(t, pod("ns", "old"))
	w, err := s.Watch(ctx, "/pods/", apistorage.ListOptions{ResourceVersion: old.ResourceVersion, Recursive: true, Predicate: apistorage.Everything})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	if err := s.Create(ctx, "/pods/ns/new", pod("ns", "new"), nil, 1); err != nil {
		t.Fatal(err)
	}
	deleted := map[string]bool{}
	for len(deleted) < 2 {
		if e := <-w.ResultChan(); e.Type == watch.Deleted {
			deleted[e.Object.(*example.Pod).Name] = true
		}
	}
	e, err := log.Get(ctx, 4)
	if err != nil || e.Actor != "system:apiserver" || !e.IsDeletion() || !strings.Contains(e.Reason, "time to live") {
		t.Errorf("%v: %+v", err, e)
	}
}

func TestTooLargeObject(t *testing.T) {
	ctx, s := setupOn(t, memlog.New(), projections.Options{History: true})
	big := pod("ns", "big")
	big.Annotations = map[string]string{"a": strings.Repeat("x", events.MaxEventBytes)}
	err := s.Create(ctx, keyOf(big), big, nil, 0)
	if err == nil || !strings.Contains(err.Error(), "the limit is") {
		t.Errorf("create: %v", err)
	}
	// Two megabytes fit, and so does replacing them: then the event goes without its list of changes.
	big.Annotations["a"] = strings.Repeat("x", 2<<20)
	p := s.mustCreate(t, big)
	p = s.mustUpdate(ctx, t, p, func(p *example.Pod) { p.Annotations["a"] = strings.Repeat("y", 2<<20) })
	e, err := s.log.Get(ctx, seqOf(t, p))
	if err != nil || e.Changes != nil || e.Type != "io.orlog.pod.annotated" {
		t.Errorf("%v: %s with %d bytes of changes", err, e.Type, len(e.Changes))
	}
}

// TestKeySchema is what of RunTestKeySchema an event can express.
func TestKeySchema(t *testing.T) {
	ctx, s := setupOn(t, memlog.New(), projections.Options{History: true})
	for key, want := range map[string]string{
		"": "empty key", "/": "empty key", ".": "invalid key", "..": "invalid key", "/pods/a/../b": "invalid key", "pods": "lacks resource prefix",
		"/pods": "lacks resource prefix", "/pods.apps": "lacks resource prefix", "/foo/": "lacks resource prefix",
		"/pods/": "names no object", "/pods/a/": "names no object", "/pods/a/b/c": "names no object",
	} {
		for what, err := range map[string]error{
			"create": s.Create(ctx, key, &example.Pod{}, nil, 0),
			"update": s.GuaranteedUpdate(ctx, key, &example.Pod{}, true, nil, nil, nil),
			"delete": s.Delete(ctx, key, &example.Pod{}, nil, apistorage.ValidateAllObjectFunc, nil, apistorage.DeleteOptions{}),
		} {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s %q: %v, want %q", what, key, err, want)
			}
		}
		if want == "names no object" {
			if err := s.Get(ctx, key, apistorage.GetOptions{}, &example.Pod{}); !apistorage.IsNotFound(err) {
				t.Errorf("get %q: %v", key, err)
			}
			continue
		}
		if err := s.Get(ctx, key, apistorage.GetOptions{}, &example.Pod{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("get %q: %v, want %q", key, err, want)
		}
	}
	for _, key := range []string{"/pods/name", "/pods/namespace", "/pods/namespace/name"} {
		if err := s.Create(ctx, key, &example.Pod{}, nil, 0); err != nil {
			t.Errorf("create %q: %v", key, err)
		}
	}
}

// The order in which Fold leaves managedFields is not what readers get.
func TestManagersAreInUpstreamsOrder(t *testing.T) {
	ctx, s := setupOn(t, memlog.New(), projections.Options{History: true})
	at := func(sec int64) *metav1.Time { return &metav1.Time{Time: time.Unix(sec, 0)} }
	p := pod("ns", "p")
	p.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "a", Operation: "Update", Time: at(1)}, {Manager: "s", Operation: "Update", Time: at(2), Subresource: "status"}}
	p.Status.Phase = "Pending"
	p = s.mustCreate(t, p)
	p = s.mustUpdate(ctx, t, p, func(p *example.Pod) {
		p.Spec.NodeName = "n"
		p.ManagedFields = append(p.ManagedFields, metav1.ManagedFieldsEntry{Manager: "b", Operation: "Update", Time: at(3)})
	})
	got := &example.Pod{}
	if err := s.Get(ctx, keyOf(p), apistorage.GetOptions{}, got); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(p, got); d != "" {
		t.Error(d)
	}
	again := s.mustUpdate(ctx, t, p, func(*example.Pod) {})
	if again.ResourceVersion != p.ResourceVersion {
		t.Errorf("an update of nothing wrote revision %s after %s", again.ResourceVersion, p.ResourceVersion)
	}
}

// A node may report any JSON about its own pods. What does not fit is ignored, for the others' sake; a write mends it.
func TestUnfitStatus(t *testing.T) {
	log := memlog.New()
	ctx, s := setupOn(t, log, projections.Options{History: true})
	s.logger = slog.New(slog.DiscardHandler)
	s.mustCreate(t, pod("ns", "other"))
	p := pod("ns", "p")
	p.Spec.NodeName = "n1"
	p = s.mustCreate(t, p)
	w, err := s.Watch(ctx, "/pods/", apistorage.ListOptions{ResourceVersion: p.ResourceVersion, Recursive: true, Predicate: apistorage.Everything})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	report := events.Event{Subject: events.Subject{Class: events.Observed, Key: events.Key{Resource: "pods", Namespace: "ns", Name: "p"}, Node: "n1"},
		Type: "io.orlog.pod.started", Source: "test", Actor: "system:node:n1", UID: string(p.UID), Time: time.Now(),
		Object: []byte(`{"metadata":{"uid":"` + string(p.UID) + `"},"status":{"phase":5}}`)}
	if _, err := log.Append(ctx, events.Entry{Event: report}); err != nil {
		t.Fatal(err)
	}
	if e := <-w.ResultChan(); e.Type != watch.Modified || e.Object.(*example.Pod).Status.Phase != "" {
		t.Errorf("watch: %v", e)
	}
	list := &example.PodList{}
	if err := s.GetList(ctx, "/pods/", apistorage.ListOptions{Recursive: true, Predicate: apistorage.Everything}, list); err != nil || len(list.Items) != 2 {
		t.Fatalf("list: %v, %d pods", err, len(list.Items))
	}
	got := &example.Pod{}
	if err := s.Get(ctx, keyOf(p), apistorage.GetOptions{}, got); err != nil || got.Status.Phase != "" || got.Spec.NodeName != "n1" || got.ResourceVersion == p.ResourceVersion {
		t.Fatalf("get: %v, %+v", err, got)
	}
	s.mustUpdate(ctx, t, got, func(p *example.Pod) { p.Status.Phase = "Running" })
	if err := s.Get(ctx, keyOf(p), apistorage.GetOptions{}, got); err != nil || got.Status.Phase != "Running" {
		t.Errorf("after a write: %v, %+v", err, got.Status)
	}
}
