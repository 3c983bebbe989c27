package scheduler

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/services/loop"
	"github.com/orlog-io/orlog/services/loop/looptest"
)

func TestGolden(t *testing.T) { looptest.Golden(t, Scheduler{}, "testdata") }

func node(name string, cpu, memory string, pods int64, labels map[string]string) *corev1.Node {
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}, Status: corev1.NodeStatus{Allocatable: corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory), corev1.ResourcePods: *resource.NewQuantity(pods, resource.DecimalSI)}}}
}

func pod(name string, milliCPU int64, edit func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, Labels: map[string]string{"app": "web"}},
		Spec: corev1.PodSpec{SchedulerName: Name, Containers: []corev1.Container{{Name: "c", Resources: corev1.ResourceRequirements{
			Requests: corev1.ResourceList{corev1.ResourceCPU: *resource.NewMilliQuantity(milliCPU, resource.DecimalSI)}}}}},
		Status: corev1.PodStatus{Phase: corev1.PodPending}}
	if edit != nil {
		edit(p)
	}
	return p
}

// decideAll decides about all pending pods at once and performs it, as the loop would.
func decideAll(t *testing.T, w *looptest.World) {
	t.Helper()
	v := w.View()
	var keys []loop.Item
	for _, p := range loop.Pods.List(v, "") {
		if pending(p) {
			keys = append(keys, loop.Item{Key: loop.Pods.KeyOf(p)})
		}
	}
	decisions := Scheduler{}.DecideAll(v, keys, w.Now())
	if v.Err() != nil {
		t.Fatal(v.Err())
	}
	for _, d := range decisions {
		for _, e := range d.Effects() {
			if _, err := w.Perform(context.Background(), e, events.Cause{}); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestNeverOvercommits places random pods on random nodes, some of which end again, and checks after each
// round that every node holds what is bound to it and that every pod's rules are kept.
func TestNeverOvercommits(t *testing.T) {
	for seed := range uint64(30) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 1))
			w := looptest.NewWorld(t)
			for i := range 1 + r.IntN(5) {
				n := node(fmt.Sprintf("n%d", i), fmt.Sprint(1+r.IntN(4)), "8Gi", 1+r.Int64N(12), map[string]string{"zone": fmt.Sprint(i % 2), corev1.LabelHostname: fmt.Sprintf("n%d", i)})
				if r.IntN(4) == 0 {
					n.Spec.Taints = []corev1.Taint{{Key: "special", Effect: corev1.TaintEffectNoSchedule}}
				}
				n.Spec.Unschedulable = r.IntN(6) == 0
				w.Put(loop.Nodes.Key("", n.Name), n)
			}
			for round := range 6 {
				for i := range r.IntN(12) {
					p := pod(fmt.Sprintf("p%d-%d", round, i), 100*r.Int64N(15), randomRules(r))
					w.Put(loop.Pods.KeyOf(p), p)
				}
				decideAll(t, w)
				checkNodes(t, w)
				for _, p := range loop.Pods.List(w.View(), "") {
					if p.Spec.NodeName != "" && r.IntN(4) == 0 {
						w.Remove(loop.Pods.KeyOf(p))
					}
				}
			}
		})
	}
}

func randomRules(r *rand.Rand) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		switch r.IntN(6) {
		case 0:
			p.Spec.NodeSelector = map[string]string{"zone": fmt.Sprint(r.IntN(2))}
		case 1:
			p.Spec.Tolerations = []corev1.Toleration{{Operator: corev1.TolerationOpExists}}
		case 2:
			p.Labels["app"] = "lonely"
			p.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{
				TopologyKey: corev1.LabelHostname, LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "lonely"}}}}}}
		case 3:
			p.Spec.Containers[0].Ports = []corev1.ContainerPort{{HostPort: 80, ContainerPort: 80}}
		}
	}
}

func checkNodes(t *testing.T, w *looptest.World) {
	t.Helper()
	v := w.View()
	nodes := map[string]*corev1.Node{}
	for _, n := range loop.Nodes.List(v, "") {
		nodes[n.Name] = n
	}
	cpu, count, ports, lonely := map[string]int64{}, map[string]int64{}, map[string]int{}, map[string]int{}
	for _, p := range loop.Pods.List(v, "") {
		name := p.Spec.NodeName
		if name == "" {
			continue
		}
		n := nodes[name]
		cpu[name] += p.Spec.Containers[0].Resources.Requests.Cpu().MilliValue()
		count[name]++
		ports[name] += len(p.Spec.Containers[0].Ports)
		if p.Labels["app"] == "lonely" {
			lonely[name]++
		}
		for k, want := range p.Spec.NodeSelector {
			if n.Labels[k] != want {
				t.Errorf("pod %s selects %s=%s and is on %s", p.Name, k, want, name)
			}
		}
		if (n.Spec.Unschedulable || len(n.Spec.Taints) > 0) && len(p.Spec.Tolerations) == 0 {
			t.Errorf("pod %s does not tolerate %s", p.Name, name)
		}
	}
	for name, n := range nodes {
		if cpu[name] > n.Status.Allocatable.Cpu().MilliValue() || count[name] > n.Status.Allocatable.Pods().Value() || ports[name] > 1 || lonely[name] > 1 {
			t.Errorf("node %s holds %dm cpu, %d pods, %d host ports, %d lonely", name, cpu[name], count[name], ports[name], lonely[name])
		}
	}
}

func TestSpreadsOwnersPodsAndRepeatsItself(t *testing.T) {
	place := func() string {
		w := looptest.NewWorld(t)
		for i := range 3 {
			w.Put(loop.Nodes.Key("", fmt.Sprintf("n%d", i)), node(fmt.Sprintf("n%d", i), "4", "8Gi", 110, nil))
		}
		for i := range 9 {
			w.Put(loop.Pods.Key("default", fmt.Sprintf("p%d", i)), pod(fmt.Sprintf("p%d", i), 100, func(p *corev1.Pod) {
				p.OwnerReferences = []metav1.OwnerReference{{Kind: "ReplicaSet", Name: "web", UID: "rs", Controller: new(true)}}
			}))
		}
		decideAll(t, w)
		var out strings.Builder
		per := map[string]int{}
		for _, p := range loop.Pods.List(w.View(), "") {
			fmt.Fprintf(&out, "%s:%s ", p.Name, p.Spec.NodeName)
			per[p.Spec.NodeName]++
		}
		if per["n0"] != 3 || per["n1"] != 3 || per["n2"] != 3 {
			t.Errorf("uneven: %v", per)
		}
		return out.String()
	}
	if a, b := place(), place(); a != b {
		t.Errorf("the same history was decided differently:\n%s\n%s", a, b)
	}
}

func TestPriorityGoesFirst(t *testing.T) {
	w := looptest.NewWorld(t)
	w.Put(loop.Nodes.Key("", "n"), node("n", "1", "8Gi", 1, nil))
	w.Put(loop.Pods.Key("default", "a"), pod("a", 100, nil))
	w.Put(loop.Pods.Key("default", "b"), pod("b", 100, func(p *corev1.Pod) { p.Spec.Priority = new(int32(10)) }))
	decideAll(t, w)
	if p := loop.Pods.Get(w.View(), "default", "b"); p.Spec.NodeName != "n" {
		t.Errorf("the pod of higher priority was not placed: %+v", p.Status)
	}
}

func BenchmarkBatchOnThousandNodes(b *testing.B) {
	w := looptest.NewWorld(b)
	for i := range 1000 {
		n := node(fmt.Sprintf("n%04d", i), "16", "64Gi", 110, map[string]string{corev1.LabelHostname: fmt.Sprintf("n%04d", i)})
		w.Put(loop.Nodes.Key("", n.Name), n)
		for j := range 3 {
			p := pod(fmt.Sprintf("p%d-%d", i, j), 100, func(p *corev1.Pod) { p.Spec.NodeName = n.Name })
			w.Put(loop.Pods.KeyOf(p), p)
		}
	}
	var keys []loop.Item
	for i := range batch {
		p := pod(fmt.Sprintf("new-%d", i), 100, nil)
		w.Put(loop.Pods.KeyOf(p), p)
		keys = append(keys, loop.Item{Key: loop.Pods.KeyOf(p)})
	}
	v := w.View()
	start := time.Now()
	for b.Loop() {
		Scheduler{}.DecideAll(v, keys, w.Now())
	}
	b.ReportMetric(float64(batch*b.N)/time.Since(start).Seconds(), "pods/s")
}
