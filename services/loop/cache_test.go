package loop

import (
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/orlog-io/orlog/events"
)

// A status that a node made up must not stop decisions about the object; anything else that does not fit must.
func TestUnfitStatus(t *testing.T) {
	state := events.State{Key: Pods.Key("ns", "p"), Revision: 3, Object: []byte(`{"spec":{"nodeName":"n1"},"status":{"phase":5}}`)}
	p, err := decode[corev1.Pod](NewCache(0), state)
	if err != nil || p.Spec.NodeName != "n1" || p.Status.Phase != "" || p.ResourceVersion != "3" {
		t.Errorf("got %+v, %v", p, err)
	}
	state.Object = []byte(`{"spec":{"nodeName":5},"status":{"phase":"Running"}}`)
	if p, err := decode[corev1.Pod](NewCache(0), state); err == nil {
		t.Errorf("a pod on node 5: %+v", p)
	}
}

// Who asks at the same time gets the same object: it is decoded once.
func TestDecodedOnce(t *testing.T) {
	c := NewCache(0)
	for revision := range events.Sequence(200) {
		state := events.State{Key: Pods.Key("ns", "p"), Revision: revision + 1, Object: []byte(`{"spec":{"nodeName":"n1"}}`)}
		var got [4]*corev1.Pod
		var group sync.WaitGroup
		for i := range got {
			group.Go(func() {
				var err error
				if got[i], err = decode[corev1.Pod](c, state); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
		for _, p := range got {
			if p != got[0] {
				t.Fatalf("revision %d was decoded more than once", state.Revision)
			}
		}
	}
}
