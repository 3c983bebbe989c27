package statefulset

import (
	"fmt"
	"math/rand/v2"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/orlog-io/orlog/services/loop"
	"github.com/orlog-io/orlog/services/loop/looptest"
	"github.com/orlog-io/orlog/services/reconcilers/replica"
)

var db = loop.StatefulSets.Key("default", "db")

func newSet(replicas int32, edit func(*appsv1.StatefulSet)) *appsv1.StatefulSet {
	labels := map[string]string{"app": "db"}
	s := &appsv1.StatefulSet{Spec: appsv1.StatefulSetSpec{
		Replicas: &replicas, ServiceName: "db", Selector: &metav1.LabelSelector{MatchLabels: labels}, RevisionHistoryLimit: new(int32(2)),
		UpdateStrategy:       appsv1.StatefulSetUpdateStrategy{Type: appsv1.RollingUpdateStatefulSetStrategyType, RollingUpdate: &appsv1.RollingUpdateStatefulSetStrategy{Partition: new(int32(0))}},
		PodManagementPolicy:  appsv1.OrderedReadyPodManagement,
		Template:             corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "v1"}}}},
		VolumeClaimTemplates: []corev1.PersistentVolumeClaim{{ObjectMeta: metav1.ObjectMeta{Name: "data"}}},
	}}
	if edit != nil {
		edit(s)
	}
	return s
}

type cluster struct {
	looptest.Kubelet
	t *testing.T
}

func newCluster(t *testing.T, seed uint64) *cluster {
	return &cluster{looptest.Kubelet{World: looptest.NewWorld(t), Random: rand.New(rand.NewPCG(seed, 0))}, t}
}

func (c *cluster) decide() bool { return len(c.Decide(Reconciler{}, db).Effects()) > 0 }

func (c *cluster) get() *appsv1.StatefulSet { return loop.StatefulSets.At(c.View(), db) }

func (c *cluster) change(edit func(*appsv1.StatefulSet)) {
	s := c.get().DeepCopy()
	edit(s)
	c.Put(db, s)
}

func (c *cluster) images() string {
	out := ""
	for _, p := range c.Pods() {
		out += fmt.Sprintf("%s=%s ", p.Name, p.Spec.Containers[0].Image)
	}
	return out
}

// inOrder: what lives has all its predecessors, and only the last of them may be unready.
func (c *cluster) inOrder() {
	c.t.Helper()
	pods := c.Pods()
	for i, p := range pods {
		if ordinalOf(p.Name) != i {
			c.t.Fatalf("pods %s", c.images())
		}
	}
}

func TestOrderedGrowthAndShrinkage(t *testing.T) {
	for seed := range uint64(5) {
		c := newCluster(t, seed)
		c.Put(db, newSet(4, nil))
		c.Settle(func() {
			c.inOrder()
			pods := c.Pods()
			for _, p := range pods[:max(0, len(pods)-1)] {
				if replica.Ready(p) == nil {
					t.Fatalf("%s came before %s was ready", pods[len(pods)-1].Name, p.Name)
				}
			}
		}, c.decide)
		if s := c.get().Status; s.ReadyReplicas != 4 || s.CurrentReplicas != 4 || s.UpdatedReplicas != 4 || s.CurrentRevision != s.UpdateRevision {
			t.Errorf("status %+v", s)
		}
		c.change(func(s *appsv1.StatefulSet) { s.Spec.Replicas = new(int32(1)) })
		c.Settle(c.inOrder, c.decide)
		if got := c.images(); got != "db-0=v1 " {
			t.Errorf("left: %s", got)
		}
		if n := len(loop.Claims.List(c.View(), "default")); n != 4 {
			t.Errorf("%d claims are kept", n)
		}
		p := c.Pods()[0]
		if p.Spec.Hostname != "db-0" || p.Spec.Subdomain != "db" || p.Spec.Volumes[0].PersistentVolumeClaim.ClaimName != "data-db-0" || p.Labels[appsv1.PodIndexLabel] != "0" {
			t.Errorf("pod %+v", p)
		}
	}
}

func TestRollsFromTheTopAndBack(t *testing.T) {
	c := newCluster(t, 1)
	c.Put(db, newSet(3, nil))
	c.Settle(nil, c.decide)
	roll := func(image string) {
		c.change(func(s *appsv1.StatefulSet) { s.Spec.Template.Spec.Containers[0].Image = image })
		c.Settle(func() {
			pods := c.Pods()
			missing := 3 - len(pods)
			for i, p := range pods {
				if p.DeletionTimestamp != nil || replica.Ready(p) == nil {
					missing++
				}
				if i > 0 && p.Spec.Containers[0].Image != image && pods[i-1].Spec.Containers[0].Image == image {
					t.Fatalf("not from the top: %s", c.images())
				}
			}
			if missing > 1 {
				t.Fatalf("%d of 3 are missing", missing)
			}
		}, c.decide)
	}
	roll("v2")
	first := c.get().Status.CurrentRevision
	roll("v3")
	roll("v2")
	if got := c.images(); got != "db-0=v2 db-1=v2 db-2=v2 " {
		t.Errorf("pods %s", got)
	}
	if s := c.get().Status; s.CurrentRevision != first || s.UpdateRevision != first || s.CurrentReplicas != 3 {
		t.Errorf("rolled back to %+v, was %s", s, first)
	}
	if d := c.Decide(Reconciler{}, db); len(d.Effects()) > 0 {
		t.Errorf("a settled set is still written:\n%s", looptest.Print(d))
	}
}

func TestPartitionHoldsBack(t *testing.T) {
	c := newCluster(t, 2)
	c.Put(db, newSet(3, func(s *appsv1.StatefulSet) { s.Spec.UpdateStrategy.RollingUpdate.Partition = new(int32(2)) }))
	c.Settle(nil, c.decide)
	c.change(func(s *appsv1.StatefulSet) { s.Spec.Template.Spec.Containers[0].Image = "v2" })
	c.Settle(nil, c.decide)
	if got := c.images(); got != "db-0=v1 db-1=v1 db-2=v2 " {
		t.Errorf("pods %s", got)
	}
	if s := c.get().Status; s.CurrentReplicas != 2 || s.UpdatedReplicas != 1 || s.CurrentRevision == s.UpdateRevision {
		t.Errorf("status %+v", s)
	}
	c.Remove(loop.Pods.Key("default", "db-0"))
	c.Settle(nil, c.decide)
	if got := c.images(); got != "db-0=v1 db-1=v1 db-2=v2 " {
		t.Errorf("a lost pod came back wrong: %s", got)
	}
}

func TestParallelStartsAllAtOnce(t *testing.T) {
	c := newCluster(t, 3)
	c.Put(db, newSet(5, func(s *appsv1.StatefulSet) { s.Spec.PodManagementPolicy = appsv1.ParallelPodManagement }))
	c.decide()
	if n := len(c.Pods()); n != 5 {
		t.Errorf("%d pods after one decision", n)
	}
}
