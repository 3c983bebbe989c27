package storage

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/apiserver/pkg/apis/example"
	apistorage "k8s.io/apiserver/pkg/storage"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/projections"
)

func pod(namespace, name string) *example.Pod {
	return &example.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, UID: types.UID("uid-" + name)}}
}

func keyOf(p *example.Pod) string { return "/pods/" + p.Namespace + "/" + p.Name }

func (s *store) mustCreate(t testing.TB, p *example.Pod) *example.Pod {
	t.Helper()
	out := &example.Pod{}
	if err := s.Create(t.Context(), keyOf(p), p, out, 0); err != nil {
		t.Fatal(err)
	}
	return out
}

func (s *store) mustUpdate(ctx context.Context, t testing.TB, p *example.Pod, change func(*example.Pod)) *example.Pod {
	t.Helper()
	out := &example.Pod{}
	err := s.GuaranteedUpdate(ctx, keyOf(p), out, false, nil, apistorage.SimpleUpdate(func(obj runtime.Object) (runtime.Object, error) {
		p := obj.(*example.Pod).DeepCopy()
		change(p)
		return p, nil
	}), nil)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func (s *store) names(ctx context.Context, t testing.TB, opts apistorage.ListOptions) string {
	t.Helper()
	opts.Recursive = true
	if opts.Predicate.Label == nil {
		limit, token := opts.Predicate.Limit, opts.Predicate.Continue
		opts.Predicate = apistorage.Everything
		opts.Predicate.Limit, opts.Predicate.Continue = limit, token
	}
	list := &example.PodList{}
	if err := s.GetList(ctx, "/pods/", opts, list); err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, p := range list.Items {
		out = append(out, p.Namespace+"/"+p.Name)
	}
	return strings.Join(out, " ")
}

func seqOf(t testing.TB, p *example.Pod) events.Sequence {
	t.Helper()
	seq, err := events.ParseSequence(p.ResourceVersion)
	if err != nil {
		t.Fatal(err)
	}
	return seq
}

// Two gateways on one log: what one writes, the other's next read, update and delete know of.
func TestTwoGateways(t *testing.T) {
	ctx, a := setup(t)
	b := pods(t, follow(t, a.log, projections.Options{History: true}))
	for i := range 20 {
		p := a.mustCreate(t, pod("ns", fmt.Sprintf("p%d", i)))
		got := &example.Pod{}
		if err := b.Get(ctx, keyOf(p), apistorage.GetOptions{}, got); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(p, got); d != "" {
			t.Fatal(d)
		}
		b.mustUpdate(ctx, t, p, func(p *example.Pod) { p.Spec.NodeName = "n" })
		a.mustUpdate(ctx, t, p, func(p *example.Pod) { p.Spec.Hostname = "h" })
		if err := b.Get(ctx, keyOf(p), apistorage.GetOptions{}, got); err != nil || got.Spec.NodeName != "n" || got.Spec.Hostname != "h" {
			t.Fatalf("%v, %+v", err, got.Spec)
		}
		if err := b.Create(ctx, keyOf(p), pod("ns", p.Name), nil, 0); !apistorage.IsExist(err) {
			t.Fatalf("create of what exists: %v", err)
		}
		if err := b.Delete(ctx, keyOf(p), got, nil, apistorage.ValidateAllObjectFunc, nil, apistorage.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		if err := a.Get(ctx, keyOf(p), apistorage.GetOptions{}, got); !apistorage.IsNotFound(err) {
			t.Fatalf("get of what is gone: %v", err)
		}
		a.mustCreate(t, pod("ns", p.Name))
	}
}

// Many writers of one object through two gateways lose no update.
func TestContention(t *testing.T) {
	ctx, a := setup(t)
	b := pods(t, follow(t, a.log, projections.Options{History: true}))
	p := a.mustCreate(t, pod("ns", "p"))
	const writers, rounds = 6, 10
	var group sync.WaitGroup
	for i := range writers {
		group.Go(func() {
			s := []*store{a, b}[i%2]
			for range rounds {
				s.mustUpdate(ctx, t, p, func(p *example.Pod) {
					if p.Spec.NodeSelector == nil {
						p.Spec.NodeSelector = map[string]string{}
					}
					p.Spec.NodeSelector["n"] += "x"
				})
			}
		})
	}
	group.Wait()
	got := &example.Pod{}
	if err := a.Get(ctx, keyOf(p), apistorage.GetOptions{}, got); err != nil || len(got.Spec.NodeSelector["n"]) != writers*rounds {
		t.Errorf("%v, %d updates of %d", err, len(got.Spec.NodeSelector["n"]), writers*rounds)
	}
}

// An intent and a report cross: both stay, and the intent's answer holds the report too.
func TestReportDoesNotConflictWithIntent(t *testing.T) {
	ctx, s := setup(t)
	p := s.mustCreate(t, pod("ns", "p"))
	crossed := false
	out := &example.Pod{}
	err := s.GuaranteedUpdate(ctx, keyOf(p), out, false, nil, apistorage.SimpleUpdate(func(obj runtime.Object) (runtime.Object, error) {
		if crossed {
			t.Error("the intent was decided on again")
		}
		crossed = true
		s.mustUpdate(ctx, t, p, func(p *example.Pod) { p.Status.Phase = "Running" })
		p := obj.(*example.Pod).DeepCopy()
		p.Spec.NodeName = "n"
		return p, nil
	}), nil)
	if err != nil || out.Spec.NodeName != "n" || out.Status.Phase != "Running" {
		t.Fatalf("%v: %+v", err, out)
	}
	got := &example.Pod{}
	if err := s.Get(ctx, keyOf(p), apistorage.GetOptions{}, got); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(out, got); d != "" {
		t.Error(d)
	}
}

// A report that was decided on before an event that carries status is decided on again.
func TestReportDoesNotUndoUnseenStatus(t *testing.T) {
	ctx, s := setup(t)
	p := s.mustCreate(t, pod("ns", "p"))
	tries := 0
	out := &example.Pod{}
	err := s.GuaranteedUpdate(ctx, keyOf(p), out, false, nil, apistorage.SimpleUpdate(func(obj runtime.Object) (runtime.Object, error) {
		if tries++; tries == 1 {
			s.mustUpdate(ctx, t, p, func(p *example.Pod) { p.Spec.NodeName, p.Status.Phase = "n", "Terminating" })
		}
		p := obj.(*example.Pod).DeepCopy()
		p.Status.Message = "seen " + string(p.Status.Phase)
		return p, nil
	}), nil)
	if err != nil || tries != 2 || out.Status.Phase != "Terminating" || out.Status.Message != "seen Terminating" {
		t.Errorf("%v after %d tries: %+v", err, tries, out.Status)
	}
}

func TestTimeTravel(t *testing.T) {
	ctx, s := setup(t)
	p := s.mustCreate(t, pod("ns", "p"))
	second := s.mustUpdate(ctx, t, p, func(p *example.Pod) { p.Spec.NodeName = "n" })
	s.mustCreate(t, pod("ns", "q"))
	if err := s.Delete(ctx, keyOf(p), &example.Pod{}, nil, apistorage.ValidateAllObjectFunc, nil, apistorage.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	then := func(p *example.Pod) context.Context { return WithSequence(ctx, seqOf(t, p)) }
	got := &example.Pod{}
	if err := s.Get(then(second), keyOf(p), apistorage.GetOptions{}, got); err != nil || cmp.Diff(second, got) != "" {
		t.Errorf("%v: %s", err, cmp.Diff(second, got))
	}
	if got := s.names(then(p), t, apistorage.ListOptions{}); got != "ns/p" {
		t.Errorf("list then: %q", got)
	}
	if got := s.names(ctx, t, apistorage.ListOptions{}); got != "ns/q" {
		t.Errorf("list now: %q", got)
	}
	future := WithSequence(ctx, 1000)
	if err := s.Get(future, keyOf(p), apistorage.GetOptions{}, got); !apierrors.IsTimeout(err) || !apistorage.IsTooLargeResourceVersion(err) {
		t.Errorf("the future: %v", err)
	}
	for what, err := range map[string]error{
		"create": s.Create(then(p), "/pods/ns/x", pod("ns", "x"), nil, 0),
		"delete": s.Delete(then(p), "/pods/ns/q", got, nil, apistorage.ValidateAllObjectFunc, nil, apistorage.DeleteOptions{}),
		"update": s.GuaranteedUpdate(then(p), "/pods/ns/q", got, false, nil, nil, nil),
	} {
		var status apierrors.APIStatus
		if !errors.As(err, &status) || status.Status().Code != http.StatusMethodNotAllowed {
			t.Errorf("%s in the past: %v", what, err)
		}
	}
}

func TestTimeTravelWatch(t *testing.T) {
	ctx, s := setup(t)
	p := s.mustCreate(t, pod("ns", "p"))
	second := s.mustUpdate(ctx, t, p, func(p *example.Pod) { p.Spec.NodeName = "n" })
	s.mustUpdate(ctx, t, p, func(p *example.Pod) { p.Spec.NodeName = "m" })
	ctx, cancel := context.WithCancel(WithSequence(ctx, seqOf(t, second)))
	defer cancel()
	for from, want := range map[string]watch.EventType{"0": watch.Added, p.ResourceVersion: watch.Modified} {
		w, err := s.Watch(ctx, "/pods/", apistorage.ListOptions{ResourceVersion: from, Recursive: true, Predicate: apistorage.Everything})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(w.Stop)
		e := <-w.ResultChan()
		if e.Type != want || cmp.Diff(second, e.Object) != "" {
			t.Errorf("from %s: %s, want %s: %s", from, e.Type, want, cmp.Diff(second, e.Object))
		}
		select {
		case e := <-w.ResultChan():
			t.Errorf("from %s: and then %s", from, e.Type)
		case <-time.After(50 * time.Millisecond):
		}
	}
	if _, err := s.Watch(WithSequence(ctx, 1000), "/pods/", apistorage.ListOptions{Recursive: true, Predicate: apistorage.Everything}); !apistorage.IsTooLargeResourceVersion(err) {
		t.Errorf("the future: %v", err)
	}
}

// Continue tokens pin their revision for ever, and lists go in the order of storage keys: "a-b/x" before
// "a/x", as the watch cache has it.
func TestContinueAcrossNamespaces(t *testing.T) {
	ctx, s := setup(t)
	for _, p := range []*example.Pod{pod("a", "x"), pod("a", "y"), pod("a-b", "x"), pod("a.b", "x"), pod("aa", "x")} {
		s.mustCreate(t, p)
	}
	want := "a-b/x a.b/x a/x a/y aa/x"
	if got := s.names(ctx, t, apistorage.ListOptions{}); got != want {
		t.Errorf("all: %q", got)
	}
	var pages []string
	opts := apistorage.ListOptions{Recursive: true, Predicate: apistorage.Everything}
	opts.Predicate.Limit = 1
	for {
		list := &example.PodList{}
		if err := s.GetList(ctx, "/pods/", opts, list); err != nil {
			t.Fatal(err)
		}
		for _, p := range list.Items {
			pages = append(pages, p.Namespace+"/"+p.Name)
			s.mustCreate(t, pod(p.Namespace, p.Name+"-later"))
		}
		if opts.Predicate.Continue = list.Continue; list.Continue == "" {
			break
		}
	}
	if got := strings.Join(pages, " "); got != want {
		t.Errorf("by pages: %q", got)
	}
}

func TestVolatileKnowsNoPast(t *testing.T) {
	ctx, s := setupVolatile(t)
	p := s.mustCreate(t, pod("ns", "p"))
	s.mustCreate(t, pod("ns", "q"))
	list := &example.PodList{}
	opts := apistorage.ListOptions{Recursive: true, Predicate: apistorage.Everything, ResourceVersion: p.ResourceVersion, ResourceVersionMatch: metav1.ResourceVersionMatchExact}
	if err := s.GetList(ctx, "/pods/", opts, list); !apierrors.IsResourceExpired(err) {
		t.Errorf("exact list of the past: %v", err)
	}
	opts = apistorage.ListOptions{Recursive: true, Predicate: apistorage.Everything}
	opts.Predicate.Limit = 1
	if err := s.GetList(ctx, "/pods/", opts, list); err != nil {
		t.Fatal(err)
	}
	s.mustCreate(t, pod("ns", "r"))
	opts.Predicate.Continue = list.Continue
	err := s.GetList(ctx, "/pods/", opts, list)
	var status apierrors.APIStatus
	if !apierrors.IsResourceExpired(err) || !errors.As(err, &status) || status.Status().ListMeta.Continue == "" {
		t.Fatalf("continued list: %v", err)
	}
	opts.Predicate.Continue = status.Status().ListMeta.Continue
	opts.Predicate.Limit = 0
	if got := s.names(ctx, t, opts); got != "ns/q ns/r" {
		t.Errorf("continued anyway: %q", got)
	}
}

func TestUpdate(t *testing.T) {
	ctx, s := setup(t)
	p := s.mustCreate(t, pod("ns", "p"))
	other := types.UID("other")
	for name, c := range map[string]struct {
		key            string
		ignoreNotFound bool
		pre            *apistorage.Preconditions
		change         func(*example.Pod)
		refused        func(error) bool
		writes         bool
	}{
		"what is not there":              {key: "/pods/ns/none", refused: apistorage.IsNotFound},
		"what need not be there":         {key: "/pods/ns/new", ignoreNotFound: true, change: func(p *example.Pod) { p.Name = "new" }, writes: true},
		"nothing":                        {key: keyOf(p)},
		"a self link":                    {key: keyOf(p), change: func(p *example.Pod) { p.SelfLink = "link" }},
		"with the right uid":             {key: keyOf(p), pre: &apistorage.Preconditions{UID: &p.UID}},
		"with the wrong uid":             {key: keyOf(p), pre: &apistorage.Preconditions{UID: &other}, refused: apistorage.IsInvalidObj},
		"with the wrong resourceVersion": {key: keyOf(p), pre: &apistorage.Preconditions{ResourceVersion: new(string)}, refused: apistorage.IsInvalidObj},
		"something":                      {key: keyOf(p), change: func(p *example.Pod) { p.Spec.NodeName = "n" }, writes: true},
	} {
		t.Run(name, func(t *testing.T) {
			before, err := s.last(ctx)
			if err != nil {
				t.Fatal(err)
			}
			out := &example.Pod{}
			err = s.GuaranteedUpdate(ctx, c.key, out, c.ignoreNotFound, c.pre, apistorage.SimpleUpdate(func(obj runtime.Object) (runtime.Object, error) {
				p := obj.(*example.Pod).DeepCopy()
				if c.ignoreNotFound && p.Name != "" {
					t.Errorf("want the zero value of what is not there, got %+v", p)
				}
				if c.change != nil {
					c.change(p)
				}
				return p, nil
			}), nil)
			if c.refused != nil {
				if !c.refused(err) {
					t.Errorf("got %v", err)
				}
			} else if err != nil || out.SelfLink != "" {
				t.Errorf("%v: %+v", err, out)
			}
			if after, err := s.last(ctx); err != nil || (after > before) != c.writes {
				t.Errorf("%v: the log went from %d to %d", err, before, after)
			}
		})
	}
}

// An event that the codec cannot read ends the watch with an error; nothing after it is delivered.
func TestWatchOfWhatCannotBeDecoded(t *testing.T) {
	ctx, s := setup(t)
	p := s.mustCreate(t, pod("ns", "p"))
	w, err := s.Watch(ctx, "/pods/", apistorage.ListOptions{ResourceVersion: p.ResourceVersion, Recursive: true, Predicate: apistorage.Everything})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	k := events.Key{Resource: "pods", Namespace: "ns", Name: "odd"}
	e := s.event(ctx, statement{class: events.Desired, key: k, kind: "pod", verb: events.Created, uid: "u", object: []byte(`{"kind":"Riddle","apiVersion":"none/v0"}`)})
	if _, err := s.append(ctx, e, nil, "/pods/ns/odd"); err != nil {
		t.Fatal(err)
	}
	s.mustCreate(t, pod("ns", "q"))
	if e := <-w.ResultChan(); e.Type != watch.Error {
		t.Errorf("got %s: %v", e.Type, e.Object)
	}
	if e, open := <-w.ResultChan(); open {
		t.Errorf("and then %s: %v", e.Type, e.Object)
	}
}

func TestDestroyEndsWatches(t *testing.T) {
	ctx, s := setup(t)
	w, err := s.Watch(ctx, "/pods/", apistorage.ListOptions{Recursive: true, Predicate: apistorage.Everything})
	if err != nil {
		t.Fatal(err)
	}
	s.destroy()
	s.destroy()
	if e, open := <-w.ResultChan(); open {
		t.Errorf("got %s", e.Type)
	}
	if _, err := s.Watch(ctx, "/pods/", apistorage.ListOptions{Recursive: true, Predicate: apistorage.Everything}); !apistorage.IsUnreachable(err) {
		t.Errorf("watch of what was destroyed: %v", err)
	}
}
