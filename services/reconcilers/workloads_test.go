package reconcilers_test

import (
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/services/loop"
)

func (c *controlPlane) deploy(namespace string, replicas int32) {
	c.t.Helper()
	labels := map[string]string{"app": "web"}
	_, err := c.client.AppsV1().Deployments(namespace).Create(c.ctx, &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "web"}, Spec: appsv1.DeploymentSpec{
		Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: labels},
		Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "v1"}}}}}}, metav1.CreateOptions{})
	c.must(err)
	_, err = c.client.CoreV1().Services(namespace).Create(c.ctx, &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "web"}, Spec: corev1.ServiceSpec{
		Selector: labels, Ports: []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromInt32(8080)}}}}, metav1.CreateOptions{})
	c.must(err)
}

func (c *controlPlane) patch(namespace, patch string) {
	c.t.Helper()
	_, err := c.client.AppsV1().Deployments(namespace).Patch(c.ctx, "web", types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	c.must(err)
}

// rolledOut is what kubectl rollout status waits for.
func rolledOut(v *loop.View, namespace string, replicas int32) bool {
	d := loop.Deployments.Get(v, namespace, "web")
	return d != nil && d.Status.ObservedGeneration >= d.Generation && *d.Spec.Replicas == replicas && d.Status.UpdatedReplicas == replicas &&
		d.Status.Replicas == replicas && d.Status.AvailableReplicas == replicas
}

func addressesOf(v *loop.View, namespace string) (slices, endpoints int) {
	for _, s := range loop.EndpointSlices.List(v, namespace) {
		for _, e := range s.Endpoints {
			if *e.Conditions.Ready {
				slices++
			}
		}
	}
	if e := loop.Endpoints.Get(v, namespace, "web"); e != nil {
		for _, s := range e.Subsets {
			endpoints += len(s.Addresses)
		}
	}
	return slices, endpoints
}

// TestLifeOfADeployment follows one through the real gateway: created, scaled, rolled, and deleted with its
// namespace.
func TestLifeOfADeployment(t *testing.T) {
	c := newControlPlane(t)
	c.addNode("n1")
	_, err := c.client.CoreV1().Namespaces().Create(c.ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop"}}, metav1.CreateOptions{})
	c.must(err)
	c.eventually("account and bundle", func(v *loop.View) bool {
		return loop.ServiceAccounts.Get(v, "shop", "default") != nil && loop.ConfigMaps.Get(v, "shop", "kube-root-ca.crt") != nil
	})
	c.deploy("shop", 1)
	t.Log("one replica ready after", c.eventually("one replica", func(v *loop.View) bool { return rolledOut(v, "shop", 1) }))
	c.patch("shop", `{"spec":{"replicas":50}}`)
	t.Log("scaled to 50 after", c.eventually("50 replicas", func(v *loop.View) bool { return rolledOut(v, "shop", 50) }))
	c.eventually("endpoints", func(v *loop.View) bool {
		slices, legacy := addressesOf(v, "shop")
		return slices == 50 && legacy == 50
	})
	c.patch("shop", `{"spec":{"template":{"spec":{"containers":[{"name":"c","image":"v2"}]}}}}`)
	t.Log("rolled after", c.eventually("rollout", func(v *loop.View) bool { return rolledOut(v, "shop", 50) && len(loop.Pods.List(v, "shop")) == 50 }))
	c.expectCauses()
	c.must(c.client.CoreV1().Namespaces().Delete(c.ctx, "shop", metav1.DeleteOptions{}))
	t.Log("namespace gone after", c.eventually("namespace gone", func(v *loop.View) bool {
		return loop.Namespaces.Get(v, "", "shop") == nil && len(v.Contents("shop")) == 0
	}))
}

// expectCauses follows each pod's binding back to a person's write.
func (c *controlPlane) expectCauses() {
	c.t.Helper()
	last, err := c.log.Last(c.ctx)
	c.must(err)
	all, kinds := map[events.Sequence]events.Event{}, map[string]int{}
	sub, err := c.log.Subscribe(c.ctx, 1)
	c.must(err)
	defer sub.Close()
	for events.Sequence(len(all)) < last {
		got, err := sub.Next(c.ctx)
		c.must(err)
		for _, e := range got {
			all[e.Sequence] = e
			kinds[e.Type]++
		}
	}
	c.t.Log("events:", kinds)
	bound := 0
	for _, e := range all {
		if e.Type != "io.orlog.pod.bound" {
			continue
		}
		bound++
		first := e
		for first.Cause != 0 {
			first = all[first.Cause]
		}
		if first.Kind() != "deployment" || first.Actor != "orlog-admin" && first.Actor != "admin" && first.Sequence != e.Correlation {
			c.t.Errorf("binding %d of %s goes back to %d %s by %s, correlation %d", e.Sequence, e.Subject.Key, first.Sequence, first.Type, first.Actor, e.Correlation)
		}
	}
	if bound < 100 {
		c.t.Errorf("%d bindings on the log", bound)
	}
}

// TestDeletionsReachDependents deletes a Deployment in the three ways that kubectl offers.
func TestDeletionsReachDependents(t *testing.T) {
	c := newControlPlane(t)
	c.addNode("n1")
	for _, policy := range []metav1.DeletionPropagation{metav1.DeletePropagationBackground, metav1.DeletePropagationForeground, metav1.DeletePropagationOrphan} {
		t.Run(string(policy), func(t *testing.T) {
			c.t = t
			c.deploy("default", 3)
			c.eventually("ready", func(v *loop.View) bool { return rolledOut(v, "default", 3) })
			c.must(c.client.AppsV1().Deployments("default").Delete(c.ctx, "web", metav1.DeleteOptions{PropagationPolicy: &policy}))
			c.must(c.client.CoreV1().Services("default").Delete(c.ctx, "web", metav1.DeleteOptions{}))
			c.eventually("deployment and endpoints gone", func(v *loop.View) bool {
				return loop.Deployments.Get(v, "default", "web") == nil && loop.Endpoints.Get(v, "default", "web") == nil && len(loop.EndpointSlices.List(v, "default")) <= 1
			})
			if policy == metav1.DeletePropagationOrphan {
				c.eventually("orphans stay", func(v *loop.View) bool {
					sets := loop.ReplicaSets.List(v, "default")
					return len(sets) == 1 && len(sets[0].OwnerReferences) == 0 && len(loop.Pods.List(v, "default")) == 3
				})
				return
			}
			c.eventually("dependents gone", func(v *loop.View) bool {
				return len(loop.ReplicaSets.List(v, "default"))+len(loop.Pods.List(v, "default")) == 0
			})
		})
	}
}

// TestOtherWorkloads runs a DaemonSet, a StatefulSet and an indexed Job, and rolls the first two.
func TestOtherWorkloads(t *testing.T) {
	c := newControlPlane(t)
	c.addNode("n1")
	c.addNode("n2")
	pods := func(restart corev1.RestartPolicy, image string) corev1.PodTemplateSpec {
		return corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "web"}},
			Spec: corev1.PodSpec{RestartPolicy: restart, Containers: []corev1.Container{{Name: "c", Image: image}}}}
	}
	selector := &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}
	apps := c.client.AppsV1()
	_, err := apps.DaemonSets("kube-system").Create(c.ctx, &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Name: "web"}, Spec: appsv1.DaemonSetSpec{Selector: selector, Template: pods("", "v1")}}, metav1.CreateOptions{})
	c.must(err)
	_, err = apps.StatefulSets("default").Create(c.ctx, &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Name: "web"}, Spec: appsv1.StatefulSetSpec{
		Replicas: new(int32(3)), ServiceName: "web", Selector: selector, Template: pods("", "v1")}}, metav1.CreateOptions{})
	c.must(err)
	_, err = c.client.BatchV1().Jobs("default").Create(c.ctx, &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: "work"}, Spec: batchv1.JobSpec{
		Completions: new(int32(4)), Parallelism: new(int32(2)), CompletionMode: new(batchv1.IndexedCompletion), TTLSecondsAfterFinished: new(int32(1)), Template: pods(corev1.RestartPolicyNever, "v1")}}, metav1.CreateOptions{})
	c.must(err)
	at := func(generation int64) func(*loop.View) bool {
		return func(v *loop.View) bool {
			d, s := loop.DaemonSets.Get(v, "kube-system", "web"), loop.StatefulSets.Get(v, "default", "web")
			return d.Status.ObservedGeneration == generation && d.Status.NumberAvailable == 2 && d.Status.UpdatedNumberScheduled == 2 &&
				s.Status.ObservedGeneration == generation && s.Status.AvailableReplicas == 3 && s.Status.CurrentReplicas == 3 && s.Status.CurrentRevision == s.Status.UpdateRevision
		}
	}
	t.Log("job done after", c.eventually("job complete", func(v *loop.View) bool {
		j := loop.Jobs.Get(v, "default", "work")
		return j != nil && j.Status.CompletionTime != nil && j.Status.CompletedIndexes == "0-3" && j.Status.Succeeded == 4
	}))
	t.Log("sets ready after", c.eventually("sets ready", at(1)))
	patch := []byte(`{"spec":{"template":{"spec":{"containers":[{"name":"c","image":"v2"}]}}}}`)
	_, err = apps.DaemonSets("kube-system").Patch(c.ctx, "web", types.StrategicMergePatchType, patch, metav1.PatchOptions{})
	c.must(err)
	_, err = apps.StatefulSets("default").Patch(c.ctx, "web", types.StrategicMergePatchType, patch, metav1.PatchOptions{})
	c.must(err)
	t.Log("rolled after", c.eventually("sets rolled", at(2)))
	c.eventually("job expired", func(v *loop.View) bool {
		return loop.Jobs.Get(v, "default", "work") == nil && len(loop.Pods.List(v, "default")) == 3
	})
}
