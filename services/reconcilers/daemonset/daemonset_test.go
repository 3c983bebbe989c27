package daemonset

import (
	"fmt"
	"math/rand/v2"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/orlog-io/orlog/services/loop"
	"github.com/orlog-io/orlog/services/loop/looptest"
	"github.com/orlog-io/orlog/services/reconcilers/replica"
)

var logger = loop.DaemonSets.Key("default", "logger")

type cluster struct {
	looptest.Kubelet
	t *testing.T
}

func newCluster(t *testing.T, seed uint64, unavailable, surge int32) *cluster {
	c := &cluster{looptest.Kubelet{World: looptest.NewWorld(t), Random: rand.New(rand.NewPCG(seed, 0)), Node: target}, t}
	for i := range 5 {
		c.node(fmt.Sprintf("n%d", i))
	}
	labels := map[string]string{"app": "logger"}
	u, s := intstr.FromInt32(unavailable), intstr.FromInt32(surge)
	c.Put(logger, &appsv1.DaemonSet{Spec: appsv1.DaemonSetSpec{Selector: &metav1.LabelSelector{MatchLabels: labels}, RevisionHistoryLimit: new(int32(3)),
		UpdateStrategy: appsv1.DaemonSetUpdateStrategy{Type: appsv1.RollingUpdateDaemonSetStrategyType, RollingUpdate: &appsv1.RollingUpdateDaemonSet{MaxUnavailable: &u, MaxSurge: &s}},
		Template:       corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "v1"}}}}}})
	return c
}

func (c *cluster) node(name string, taints ...corev1.Taint) {
	c.Put(loop.Nodes.Key("", name), &corev1.Node{Spec: corev1.NodeSpec{Taints: taints}})
}

func (c *cluster) decide() bool { return len(c.Decide(Reconciler{}, logger).Effects()) > 0 }

func (c *cluster) get() *appsv1.DaemonSet { return loop.DaemonSets.At(c.View(), logger) }

func (c *cluster) expect(nodes int32, image string) {
	c.t.Helper()
	s := c.get().Status
	if s.DesiredNumberScheduled != nodes || s.CurrentNumberScheduled != nodes || s.NumberAvailable != nodes || s.UpdatedNumberScheduled != nodes || s.NumberMisscheduled != 0 {
		c.t.Errorf("status %+v", s)
	}
	on := map[string]bool{}
	for _, p := range c.Pods() {
		on[p.Spec.NodeName] = true
		if p.Spec.Containers[0].Image != image {
			c.t.Errorf("%s has %s", p.Name, p.Spec.Containers[0].Image)
		}
	}
	if len(on) != int(nodes) || len(c.Pods()) != int(nodes) {
		c.t.Errorf("%d pods on %d nodes", len(c.Pods()), len(on))
	}
}

func TestOneOnEachNodeThatAdmitsIt(t *testing.T) {
	c := newCluster(t, 1, 1, 0)
	c.node("tainted", corev1.Taint{Key: "x", Effect: corev1.TaintEffectNoSchedule})
	c.node("troubled", corev1.Taint{Key: corev1.TaintNodeUnreachable, Effect: corev1.TaintEffectNoExecute}, corev1.Taint{Key: corev1.TaintNodeUnschedulable, Effect: corev1.TaintEffectNoSchedule})
	c.Settle(nil, c.decide)
	c.expect(6, "v1")
	c.node("n0", corev1.Taint{Key: "x", Effect: corev1.TaintEffectNoExecute})
	c.node("late")
	c.Settle(nil, c.decide)
	c.expect(6, "v1")
	c.Report(loop.Pods.KeyOf(c.Pods()[0]), corev1.PodStatus{Phase: corev1.PodFailed})
	c.Advance(2 * failedRest)
	c.Settle(nil, c.decide)
	c.expect(6, "v1")
}

func TestRollsWithinItsBounds(t *testing.T) {
	for _, b := range []struct{ unavailable, surge int32 }{{1, 0}, {2, 0}, {0, 1}, {0, 3}} {
		for seed := range uint64(6) {
			t.Run(fmt.Sprintf("%d-%d/%d", b.unavailable, b.surge, seed), func(t *testing.T) {
				c := newCluster(t, seed, b.unavailable, b.surge)
				c.Settle(nil, c.decide)
				for _, image := range []string{"v2", "v3", "v2"} {
					next := c.get().DeepCopy()
					next.Spec.Template.Spec.Containers[0].Image = image
					c.Put(logger, next)
					c.Settle(func() {
						serving := map[string]bool{}
						for _, p := range c.Pods() {
							if p.DeletionTimestamp == nil && replica.Ready(p) != nil {
								serving[p.Spec.NodeName] = true
							}
						}
						if n := len(serving); n < 5-int(b.unavailable) {
							t.Fatalf("only %d of 5 nodes are served", n)
						}
						if n := len(c.Pods()); b.surge > 0 && n > 5+int(b.surge)+5 {
							t.Fatalf("%d pods on 5 nodes", n)
						}
					}, c.decide)
					c.expect(5, image)
				}
				if revs := loop.Revisions.List(c.View(), "default"); len(revs) != 3 || c.decide() {
					t.Errorf("%d revisions, or not settled", len(revs))
				}
			})
		}
	}
}
