package loop

import (
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
