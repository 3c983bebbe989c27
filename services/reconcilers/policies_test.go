package reconcilers_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	policyv1 "k8s.io/api/policy/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/orlog-io/orlog/services/loop"
)

func simplePod(name, cpu, class string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app": name}}, Spec: corev1.PodSpec{PriorityClassName: class,
		Containers: []corev1.Container{{Name: "c", Image: "v1", Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu)}}}}}}
}

// TestEvictionsUnderABudget evicts through the real API: the budget lets one of three pods go, and the next
// only when the first is replaced and ready.
func TestEvictionsUnderABudget(t *testing.T) {
	c := newControlPlane(t)
	c.addNode("n1")
	_, err := c.client.PolicyV1().PodDisruptionBudgets("default").Create(c.ctx, &policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Name: "web"}, Spec: policyv1.PodDisruptionBudgetSpec{
		MaxUnavailable: new(intstr.FromString("34%")), Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}}}, metav1.CreateOptions{})
	c.must(err)
	c.deploy("default", 2)
	allowed := func(n int32) func(*loop.View) bool {
		return func(v *loop.View) bool {
			b := loop.Budgets.Get(v, "default", "web")
			return b != nil && b.Status.ObservedGeneration == b.Generation && b.Status.ExpectedPods == 2 && b.Status.DisruptionsAllowed == n && b.Status.CurrentHealthy == b.Status.DesiredHealthy+n
		}
	}
	c.eventually("one may go", allowed(1))
	evict := func() error {
		pods, err := c.client.CoreV1().Pods("default").List(c.ctx, metav1.ListOptions{LabelSelector: "app=web"})
		c.must(err)
		i := slices.IndexFunc(pods.Items, func(p corev1.Pod) bool { return p.DeletionTimestamp == nil && p.Status.Phase == corev1.PodRunning })
		return c.client.PolicyV1().Evictions("default").Evict(c.ctx, &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: pods.Items[i].Name, Namespace: "default"}})
	}
	c.must(evict())
	c.eventually("it is replaced", allowed(1))
	_, err = c.client.PolicyV1().PodDisruptionBudgets("default").Patch(c.ctx, "web", types.MergePatchType, []byte(`{"spec":{"maxUnavailable":0}}`), metav1.PatchOptions{})
	c.must(err)
	c.eventually("none may go", allowed(0))
	if err := evict(); !apierrors.IsTooManyRequests(err) {
		t.Errorf("evicted in spite of the budget: %v", err)
	}
}

// TestQuotaRefusesAndGivesBack lets a ReplicationController run into a quota, which it reports, and out of it.
func TestQuotaRefusesAndGivesBack(t *testing.T) {
	c := newControlPlane(t)
	c.addNode("n1")
	core := c.client.CoreV1()
	_, err := core.ResourceQuotas("default").Create(c.ctx, &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Name: "q"}, Spec: corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{
		corev1.ResourcePods: resource.MustParse("2"), corev1.ResourceConfigMaps: resource.MustParse("9")}}}, metav1.CreateOptions{})
	c.must(err)
	used := func(pods int64) func(*loop.View) bool {
		return func(v *loop.View) bool {
			q := loop.Quotas.Get(v, "default", "q")
			if q == nil {
				return false // not projected yet
			}
			n, counted := q.Status.Used[corev1.ResourcePods]
			maps := q.Status.Used[corev1.ResourceConfigMaps]
			return counted && n.Value() == pods && maps.Value() == int64(len(loop.ConfigMaps.List(v, "default")))
		}
	}
	c.eventually("counted", used(0))
	labels := map[string]string{"app": "rc"}
	_, err = core.ReplicationControllers("default").Create(c.ctx, &corev1.ReplicationController{ObjectMeta: metav1.ObjectMeta{Name: "rc"}, Spec: corev1.ReplicationControllerSpec{
		Replicas: new(int32(3)), Selector: labels, Template: &corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: simplePod("", "1m", "").Spec}}}, metav1.CreateOptions{})
	c.must(err)
	c.eventually("the third is refused", func(v *loop.View) bool {
		rc := loop.ReplicationControllers.Get(v, "default", "rc")
		return rc != nil && len(rc.Status.Conditions) == 1 && strings.Contains(rc.Status.Conditions[0].Message, "exceeded quota") && rc.Status.ReadyReplicas == 2 && used(2)(v)
	})
	_, err = core.ReplicationControllers("default").Patch(c.ctx, "rc", types.MergePatchType, []byte(`{"spec":{"replicas":1}}`), metav1.PatchOptions{})
	c.must(err)
	c.eventually("one is given back and the failure forgotten", func(v *loop.View) bool {
		rc := loop.ReplicationControllers.Get(v, "default", "rc")
		return len(rc.Status.Conditions) == 0 && rc.Status.Replicas == 1 && used(1)(v)
	})
}

// TestPreemption pushes a pod off a full node for a more important one.
func TestPreemption(t *testing.T) {
	c := newControlPlane(t)
	c.addNode("n1")
	_, err := c.client.SchedulingV1().PriorityClasses().Create(c.ctx, &schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: "high"}, Value: 1000}, metav1.CreateOptions{})
	c.must(err)
	create := func(p *corev1.Pod) {
		_, err := c.client.CoreV1().Pods("default").Create(c.ctx, p, metav1.CreateOptions{})
		c.must(err)
		c.eventually(p.Name+" runs", func(v *loop.View) bool {
			got := loop.Pods.Get(v, "default", p.Name)
			return got != nil && got.Status.Phase == corev1.PodRunning && got.Status.NominatedNodeName == ""
		})
	}
	c.eventually("accounts", func(v *loop.View) bool { return loop.ServiceAccounts.Get(v, "default", "default") != nil })
	create(simplePod("low", "10", ""))
	create(simplePod("small", "1", ""))
	create(simplePod("high", "10", "high"))
	c.eventually("only low had to go", func(v *loop.View) bool {
		return loop.Pods.Get(v, "default", "low") == nil && loop.Pods.Get(v, "default", "small") != nil
	})
}

// TestCronJobAndMirror starts a Job at the next second that the schedule names, and mirrors Endpoints.
func TestCronJobAndMirror(t *testing.T) {
	c := newControlPlane(t)
	c.addNode("n1")
	core := c.client.CoreV1()
	_, err := core.Services("default").Create(c.ctx, &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "db"}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 5432}}}}, metav1.CreateOptions{})
	c.must(err)
	_, err = core.Endpoints("default").Create(c.ctx, &corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{Name: "db"}, Subsets: []corev1.EndpointSubset{{ //nolint:staticcheck // still written by people
		Addresses: []corev1.EndpointAddress{{IP: "10.1.2.3"}}, Ports: []corev1.EndpointPort{{Port: 5432}}}}}, metav1.CreateOptions{})
	c.must(err)
	images := func(n int) func(*loop.View) bool {
		return func(v *loop.View) bool {
			return n == len(slices.DeleteFunc(loop.EndpointSlices.List(v, "default"), func(s *discoveryv1.EndpointSlice) bool {
				return !strings.HasPrefix(s.Name, "db-") || s.Endpoints[0].Addresses[0] != "10.1.2.3"
			}))
		}
	}
	c.eventually("mirrored", images(1))
	c.must(core.Endpoints("default").Delete(c.ctx, "db", metav1.DeleteOptions{}))
	c.eventually("image gone", images(0))
	_, err = c.client.BatchV1().CronJobs("default").Create(c.ctx, &batchv1.CronJob{ObjectMeta: metav1.ObjectMeta{Name: "tick"}, Spec: batchv1.CronJobSpec{Schedule: "@every 1s", ConcurrencyPolicy: batchv1.ForbidConcurrent,
		JobTemplate: batchv1.JobTemplateSpec{Spec: batchv1.JobSpec{Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{RestartPolicy: corev1.RestartPolicyNever, Containers: []corev1.Container{{Name: "c", Image: "v1"}}}}}}}}, metav1.CreateOptions{})
	c.must(err)
	t.Log("job done after", c.eventually("a job has succeeded", func(v *loop.View) bool {
		cj := loop.CronJobs.Get(v, "default", "tick")
		return cj != nil && cj.Status.LastSuccessfulTime != nil && time.Since(cj.Status.LastScheduleTime.Time) < time.Minute
	}))
}
