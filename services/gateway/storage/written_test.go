package storage

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/apis/example"
	apistorage "k8s.io/apiserver/pkg/storage"
)

// countingCodec counts what is decoded.
type countingCodec struct {
	runtime.Codec
	decoded atomic.Int64
}

func (c *countingCodec) Decode(data []byte, kind *schema.GroupVersionKind, into runtime.Object) (runtime.Object, *schema.GroupVersionKind, error) {
	c.decoded.Add(1)
	return c.Codec.Decode(data, kind, into)
}

// What is written is decoded once for its writer and a watch together; a large object is not kept for that.
func TestWrittenOnceDecoded(t *testing.T) {
	ctx, s := setup(t)
	codec := &countingCodec{Codec: s.codec}
	s.codec = codec
	w, err := s.Watch(ctx, "/pods/", apistorage.ListOptions{Recursive: true, ResourceVersion: "1", Predicate: apistorage.Everything})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	check := func(what string, p *example.Pod, want int64) {
		t.Helper()
		e := <-w.ResultChan()
		got, ok := e.Object.(*example.Pod)
		if !ok || !apiequality.Semantic.DeepEqual(got, p) {
			t.Errorf("%s: the watch has %v, its writer %v", what, e.Object, p)
		}
		if n := codec.decoded.Swap(0); n != want {
			t.Errorf("%s: decoded %d times, want %d", what, n, want)
		}
		if p.Labels == nil {
			p.Labels = map[string]string{}
		}
		p.Labels["mine"] = "changed by who wrote it"
		if ok && got.Labels["mine"] != "" {
			t.Errorf("%s: the writer's object and the watch's share memory", what)
		}
	}
	for i := range keepWritten + 1 {
		p := pod("ns", fmt.Sprintf("p%d", i))
		p.Labels = map[string]string{"a": "<b>"}
		check("create", s.mustCreate(t, p), 1)
	}
	p := pod("ns", "p0")
	p.Labels = map[string]string{}
	p = s.mustUpdate(ctx, t, p, func(p *example.Pod) { p.Spec.Hostname = "other" })
	check("update", p, 2) // what is updated is decoded, too
	large := pod("ns", "large")
	large.Labels, large.Annotations = map[string]string{}, map[string]string{"a": strings.Repeat("x", sharedUpTo)}
	check("create large", s.mustCreate(t, large), 2)
}

// A revision has one place; a newer one takes it, and an older one does not get it back.
func TestWrittenPlaces(t *testing.T) {
	var w written
	first := w.at(1, nil)
	if first == nil || w.at(1, nil) != first {
		t.Error("a revision has two places")
	}
	if w.at(1+keepWritten, nil) == nil || w.at(1, nil) != nil {
		t.Error("an old revision pushed a new one out")
	}
}
