package endpoints

import (
	"fmt"
	"math/rand/v2"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/orlog-io/orlog/services/loop"
	"github.com/orlog-io/orlog/services/loop/looptest"
)

func TestGolden(t *testing.T) {
	looptest.Golden(t, Slices{}, "testdata/slices")
	looptest.Golden(t, Legacy{}, "testdata/legacy")
	looptest.Golden(t, Mirror{}, "testdata/mirror")
}

// TestSlicesHoldEachPodOnce lets pods come, go and change ports at random: after every decision each pod
// with an address is in exactly one slice, none is overfull, and a second decision finds nothing to do.
func TestSlicesHoldEachPodOnce(t *testing.T) {
	for seed := range uint64(10) {
		r := rand.New(rand.NewPCG(seed, 0))
		w := looptest.NewWorld(t)
		web := loop.Services.Key("default", "web")
		w.Put(web, &corev1.Service{Spec: corev1.ServiceSpec{Selector: map[string]string{"app": "web"}, ClusterIP: "10.96.0.1",
			Ports: []corev1.ServicePort{{Name: "http", Port: 80, Protocol: corev1.ProtocolTCP, TargetPort: intstr.FromString("http")}}}})
		for range 8 {
			for range r.IntN(120) {
				name := fmt.Sprintf("p%d", r.IntN(260))
				key := loop.Pods.Key("default", name)
				if r.IntN(3) == 0 && loop.Pods.At(w.View(), key) != nil {
					w.Remove(key)
					continue
				}
				w.Put(key, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "web"}},
					Spec:   corev1.PodSpec{Containers: []corev1.Container{{Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8000 + r.Int32N(2), Protocol: corev1.ProtocolTCP}}}}},
					Status: corev1.PodStatus{PodIP: fmt.Sprintf("10.0.0.%d", r.IntN(250))}})
			}
			w.Decide(Slices{}, web)
			if d := w.Decide(Slices{}, web); len(d.Effects()) > 0 {
				t.Fatalf("not settled:\n%s", looptest.Print(d))
			}
			checkSlices(t, w)
		}
	}
}

func checkSlices(t *testing.T, w *looptest.World) {
	t.Helper()
	seen := map[string]int{}
	v := w.View()
	for _, s := range loop.EndpointSlices.List(v, "default") {
		if len(s.Endpoints) > full {
			t.Errorf("slice %s holds %d endpoints", s.Name, len(s.Endpoints))
		}
		for _, e := range s.Endpoints {
			seen[e.TargetRef.Name]++
			p := loop.Pods.Get(v, "default", e.TargetRef.Name)
			if p == nil || p.Spec.Containers[0].Ports[0].ContainerPort != *s.Ports[0].Port || p.Status.PodIP != e.Addresses[0] {
				t.Errorf("slice %s is wrong about %s", s.Name, e.TargetRef.Name)
			}
		}
	}
	for _, p := range loop.Pods.List(v, "default") {
		if seen[p.Name] != 1 {
			t.Errorf("pod %s is in %d slices", p.Name, seen[p.Name])
		}
	}
}
