package loop

import (
	"errors"
	"iter"
	"testing"

	"github.com/orlog-io/orlog/events"
)

// countingReader lists one pod, and counts how often; failing, it fails after it.
type countingReader struct {
	Reader
	listed  int
	failing error
}

func (r *countingReader) List(group, resource, namespace string) iter.Seq2[events.State, error] {
	return func(yield func(events.State, error) bool) {
		r.listed++
		key := events.Key{Group: group, Resource: resource, Namespace: namespace, Name: "p"}
		if yield(events.State{Key: key, Revision: 1, Object: []byte(`{"metadata":{"name":"p"}}`)}, nil) && r.failing != nil {
			yield(events.State{}, r.failing)
		}
	}
}

// TestListedOnce: a view that keeps what was listed reads it once, and gives each asker a list of his own; what could
// not be read to its end is not kept.
func TestListedOnce(t *testing.T) {
	from := &countingReader{}
	v := NewView(from, nil, nil, events.Cause{})
	for range 2 {
		Pods.List(v, "a")
	}
	if from.listed != 2 {
		t.Errorf("a view for decisions read %d times, want 2", from.listed)
	}
	from.listed, v.lists = 0, map[listed]any{}
	first := Pods.List(v, "a")
	if len(first) != 1 {
		t.Fatalf("got %d pods", len(first))
	}
	first[0] = nil
	if again := Pods.List(v, "a"); len(again) != 1 || again[0] == nil || from.listed != 1 {
		t.Errorf("got %v after %d readings", again, from.listed)
	}
	Pods.List(v, "b")
	ReplicaSets.List(v, "a")
	if from.listed != 3 {
		t.Errorf("%d readings of three lists", from.listed)
	}
	from.failing = errors.New("disk")
	for range 2 {
		Pods.List(v, "c")
	}
	if from.listed != 5 || !errors.Is(v.Err(), from.failing) {
		t.Errorf("%d readings, want 5; the view says %v", from.listed, v.Err())
	}
}
