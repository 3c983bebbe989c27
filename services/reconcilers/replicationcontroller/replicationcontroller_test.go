package replicationcontroller

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/orlog-io/orlog/services/loop"
	"github.com/orlog-io/orlog/services/loop/looptest"
)

func TestGolden(t *testing.T) { looptest.Golden(t, Reconciler{}, "testdata") }

// TestTellsWhyPodsAreRefused refuses the pods, as a quota would, and expects the gateway's words in the status.
func TestTellsWhyPodsAreRefused(t *testing.T) {
	w := looptest.NewWorld(t)
	key := loop.ReplicationControllers.Key("default", "web")
	labels := map[string]string{"app": "web"}
	w.Put(key, &corev1.ReplicationController{Spec: corev1.ReplicationControllerSpec{Replicas: new(int32(2)), Selector: labels, Template: &corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: labels}}}})
	refusal := apierrors.NewForbidden(corev1.Resource("pods"), "web-1", fmt.Errorf("exceeded quota"))
	d := Reconciler{}.Decide(w.View(), key, w.Now())
	effects := d.Refused(fmt.Errorf("create: %w", refusal))
	if len(effects) != 1 {
		t.Fatalf("%d effects", len(effects))
	}
	if _, err := w.Perform(t.Context(), effects[0], w.View().Cause); err != nil {
		t.Fatal(err)
	}
	rc := loop.ReplicationControllers.At(w.View(), key)
	if c := rc.Status.Conditions; len(c) != 1 || c[0].Reason != "FailedCreate" || c[0].Message != refusal.Error() {
		t.Fatalf("conditions %+v", c)
	}
	d = Reconciler{}.Decide(w.View(), key, w.Now())
	if again := d.Refused(refusal); len(again) != 0 {
		t.Errorf("the same failure is reported again: %+v", again)
	}
	rc.Spec.Replicas = new(int32)
	w.Put(key, rc)
	w.Decide(Reconciler{}, key)
	if c := loop.ReplicationControllers.At(w.View(), key).Status.Conditions; len(c) != 0 {
		t.Errorf("the failure was not forgotten: %+v", c)
	}
}
