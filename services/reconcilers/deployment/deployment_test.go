package deployment

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/orlog-io/orlog/services/loop"
	"github.com/orlog-io/orlog/services/loop/looptest"
	"github.com/orlog-io/orlog/services/reconcilers/replica"
	"github.com/orlog-io/orlog/services/reconcilers/replicaset"
)

func TestGolden(t *testing.T) { looptest.Golden(t, Reconciler{}, "testdata") }

var web = loop.Deployments.Key("default", "web")

func deployment(replicas int32, image string, surge, unavailable intstr.IntOrString) *appsv1.Deployment {
	labels := map[string]string{"app": "web"}
	return &appsv1.Deployment{
		TypeMeta: metav1.TypeMeta{APIVersion: "apps/v1", Kind: "Deployment"},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: labels},
			ProgressDeadlineSeconds: new(int32(600)), RevisionHistoryLimit: new(int32(2)),
			Strategy: appsv1.DeploymentStrategy{Type: appsv1.RollingUpdateDeploymentStrategyType,
				RollingUpdate: &appsv1.RollingUpdateDeployment{MaxSurge: &surge, MaxUnavailable: &unavailable}},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: image}}}},
		},
	}
}

// cluster is a world with everything that a rollout meets: both reconcilers and pods that start and end.
type cluster struct {
	*looptest.World
	t      *testing.T
	random *rand.Rand
	broken string // image whose pods never become ready
}

func newCluster(t *testing.T, seed uint64) *cluster {
	return &cluster{World: looptest.NewWorld(t), t: t, random: rand.New(rand.NewPCG(seed, 0))}
}

// step does one randomly chosen thing; false: nothing was left to do.
func (c *cluster) step() bool {
	moves := []func() bool{c.decideDeployment, c.decideReplicaSet, c.startPod, c.endPod}
	for _, i := range c.random.Perm(len(moves)) {
		if moves[i]() {
			c.Advance(100 * time.Millisecond)
			return true
		}
	}
	return false
}

func (c *cluster) decideDeployment() bool {
	return len(c.Decide(Reconciler{}, web).Effects()) > 0
}

func (c *cluster) decideReplicaSet() bool {
	sets := loop.ReplicaSets.List(c.View(), "")
	for _, i := range c.random.Perm(len(sets)) {
		if len(c.Decide(replicaset.Reconciler{}, loop.ReplicaSets.KeyOf(sets[i])).Effects()) > 0 {
			return true
		}
	}
	return false
}

func (c *cluster) startPod() bool {
	pods := c.pods()
	for _, i := range c.random.Perm(len(pods)) {
		p := pods[i]
		if replica.Ready(p) != nil || p.Spec.Containers[0].Image == c.broken || p.DeletionTimestamp != nil {
			continue
		}
		key := loop.Pods.KeyOf(p)
		p = p.DeepCopy()
		p.Spec.NodeName = "n1"
		c.Put(key, p)
		c.Report(key, corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{
			{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(c.Now())}}})
		return true
	}
	return false
}

func (c *cluster) endPod() bool {
	for _, p := range c.pods() {
		if p.DeletionTimestamp != nil {
			c.Remove(loop.Pods.KeyOf(p))
			return true
		}
	}
	return false
}

func (c *cluster) pods() []*corev1.Pod { return loop.Pods.List(c.View(), "default") }

func (c *cluster) counts() (available, all int32) {
	for _, p := range c.pods() {
		if !replica.Active(p) {
			continue
		}
		all++
		if replica.Ready(p) != nil {
			available++
		}
	}
	return available, all
}

func (c *cluster) settle(check func()) {
	for range 3000 {
		if !c.step() {
			return
		}
		if check != nil {
			check()
		}
	}
	c.t.Fatal("the rollout does not settle")
}

func (c *cluster) get() *appsv1.Deployment { return loop.Deployments.At(c.View(), web) }

// change edits the Deployment as a person would.
func (c *cluster) change(edit func(*appsv1.Deployment)) {
	d := c.get().DeepCopy()
	edit(d)
	d.Status = appsv1.DeploymentStatus{}
	o := c.get()
	d.Status = o.Status
	c.Put(web, d)
}

// TestRollingUpdateKeepsItsBounds rolls images in random interleavings, pods that fail and changes of mind
// included, and watches availability and surge at every step.
func TestRollingUpdateKeepsItsBounds(t *testing.T) {
	for seed := range uint64(40) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			c := newCluster(t, seed)
			replicas := 1 + c.random.Int32N(9)
			surge, unavailable := intstr.FromInt32(c.random.Int32N(4)), intstr.FromInt32(c.random.Int32N(3))
			c.Put(web, deployment(replicas, "v1", surge, unavailable))
			c.settle(nil)
			most, least := fenceposts(c.get())
			check := func() {
				available, all := c.counts()
				if all > replicas+most {
					t.Fatalf("%d pods of %d, surge %d", all, replicas, most)
				}
				if available < replicas-least {
					t.Fatalf("%d available of %d, %d may be missing", available, replicas, least)
				}
			}
			if seed%2 == 0 { // a bad image on the way
				c.broken = "v2"
				c.change(func(d *appsv1.Deployment) { d.Spec.Template.Spec.Containers[0].Image = "v2" })
				for range c.random.IntN(60) {
					c.step()
					check()
				}
			}
			c.change(func(d *appsv1.Deployment) { d.Spec.Template.Spec.Containers[0].Image = "v3" })
			c.settle(check)
			c.expectComplete(replicas, "v3")
		})
	}
}

func (c *cluster) expectComplete(replicas int32, image string) {
	c.t.Helper()
	available, all := c.counts()
	d := c.get()
	if available != replicas || all != replicas || d.Status.UpdatedReplicas != replicas || d.Status.AvailableReplicas != replicas {
		c.t.Errorf("settled at %d available of %d, status %+v", available, all, d.Status)
	}
	for _, p := range c.pods() {
		if p.Spec.Containers[0].Image != image {
			c.t.Errorf("pod %s still has image %s", p.Name, p.Spec.Containers[0].Image)
		}
	}
	if p := condition(&d.Status, appsv1.DeploymentProgressing); p == nil || p.Reason != newAvailable {
		c.t.Errorf("Progressing is %+v", p)
	}
	if a := condition(&d.Status, appsv1.DeploymentAvailable); a == nil || a.Status != corev1.ConditionTrue {
		c.t.Errorf("Available is %+v", a)
	}
}

func percent(s string) intstr.IntOrString { return intstr.FromString(s) }

func TestRevisionsAndRollback(t *testing.T) {
	c := newCluster(t, 1)
	c.Put(web, deployment(3, "v1", percent("25%"), percent("25%")))
	c.settle(nil)
	for _, image := range []string{"v2", "v3", "v4", "v5", "v3"} {
		c.change(func(d *appsv1.Deployment) { d.Spec.Template.Spec.Containers[0].Image = image })
		c.settle(nil)
		c.expectComplete(3, image)
	}
	if r := c.get().Annotations[revisionAnnotation]; r != "6" {
		t.Errorf("revision %s", r)
	}
	sets := loop.ReplicaSets.List(c.View(), "")
	if len(sets) != 3 { // the current one and two of history
		t.Errorf("%d replica sets are kept", len(sets))
	}
	for _, rs := range sets {
		if *rs.Spec.Replicas > 0 && (rs.Annotations[revisionAnnotation] != "6" || rs.Annotations[historyAnnotation] != "3") {
			t.Errorf("annotations of the one rolled back to: %v", rs.Annotations)
		}
	}
}

func TestRecreateNeverMixesVersions(t *testing.T) {
	c := newCluster(t, 2)
	d := deployment(3, "v1", percent("25%"), percent("25%"))
	d.Spec.Strategy = appsv1.DeploymentStrategy{Type: appsv1.RecreateDeploymentStrategyType}
	c.Put(web, d)
	c.settle(nil)
	c.change(func(d *appsv1.Deployment) { d.Spec.Template.Spec.Containers[0].Image = "v2" })
	c.settle(func() {
		images := map[string]bool{}
		for _, p := range c.pods() {
			images[p.Spec.Containers[0].Image] = true
		}
		if len(images) > 1 {
			t.Fatalf("pods of %v live at once", images)
		}
	})
	c.expectComplete(3, "v2")
}

func TestScalingInTheMiddleOfARolloutIsProportional(t *testing.T) {
	c := newCluster(t, 3)
	c.Put(web, deployment(10, "v1", intstr.FromInt32(3), intstr.FromInt32(2)))
	c.settle(nil)
	c.broken = "v2"
	c.change(func(d *appsv1.Deployment) { d.Spec.Template.Spec.Containers[0].Image = "v2" })
	c.settle(nil)
	c.change(func(d *appsv1.Deployment) { d.Spec.Replicas = new(int32(15)) })
	c.settle(nil)
	sizes := map[string]int32{}
	for _, rs := range loop.ReplicaSets.List(c.View(), "") {
		sizes[rs.Spec.Template.Spec.Containers[0].Image] = *rs.Spec.Replicas
	}
	// Upstream's documented example: 8 old and 5 new of 10+3 become 11 and 7 of 15+3.
	if sizes["v1"] != 11 || sizes["v2"] != 7 {
		t.Errorf("sizes %v", sizes)
	}
}

func TestDeadlineAndPause(t *testing.T) {
	c := newCluster(t, 4)
	c.broken = "v1"
	c.Put(web, deployment(1, "v1", percent("25%"), percent("25%")))
	c.settle(nil)
	if d := c.Decide(Reconciler{}, web); d.Again <= 0 || d.Again > 602*time.Second {
		t.Errorf("will look again in %s", d.Again)
	}
	c.Advance(602 * time.Second)
	c.Decide(Reconciler{}, web)
	if p := condition(&c.get().Status, appsv1.DeploymentProgressing); p == nil || p.Reason != timedOut || p.Status != corev1.ConditionFalse {
		t.Errorf("Progressing is %+v", p)
	}
	c.broken = ""
	c.settle(nil)
	c.expectComplete(1, "v1")
	c.change(func(d *appsv1.Deployment) {
		d.Spec.Paused = true
		d.Spec.Template.Spec.Containers[0].Image = "v2"
	})
	c.settle(nil)
	if sets := loop.ReplicaSets.List(c.View(), ""); len(sets) != 1 {
		t.Errorf("a paused Deployment rolled out: %d sets", len(sets))
	}
	c.change(func(d *appsv1.Deployment) { d.Spec.Paused = false })
	c.settle(nil)
	c.expectComplete(1, "v2")
}

func TestNothingIsDecidedTwice(t *testing.T) {
	c := newCluster(t, 5)
	c.Put(web, deployment(3, "v1", percent("25%"), percent("25%")))
	c.settle(nil)
	if d := c.Decide(Reconciler{}, web); len(d.Effects()) > 0 {
		t.Errorf("a settled Deployment is still written:\n%s", looptest.Print(d))
	}
}
