package job

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/orlog-io/orlog/services/loop"
	"github.com/orlog-io/orlog/services/loop/looptest"
	"github.com/orlog-io/orlog/services/reconcilers/replica"
)

func TestOrphans(t *testing.T) { looptest.Golden(t, Orphans{}, "testdata/orphans") }

var work = loop.Jobs.Key("default", "work")

type cluster struct {
	looptest.Kubelet
	t *testing.T
	// exit decides how a pod ends; most is the most pods that were ever active at once.
	exit func(*corev1.Pod) int32
	most int
}

func newCluster(t *testing.T, seed uint64, edit func(*batchv1.JobSpec)) *cluster {
	c := &cluster{Kubelet: looptest.Kubelet{World: looptest.NewWorld(t), Random: rand.New(rand.NewPCG(seed, 0))}, t: t, exit: func(*corev1.Pod) int32 { return 0 }}
	labels := map[string]string{"job": "work"}
	spec := batchv1.JobSpec{Selector: &metav1.LabelSelector{MatchLabels: labels}, Completions: new(int32(5)), Parallelism: new(int32(2)), BackoffLimit: new(int32(3)),
		CompletionMode: new(batchv1.NonIndexedCompletion),
		Template:       corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{RestartPolicy: corev1.RestartPolicyNever, Containers: []corev1.Container{{Name: "c", Image: "v1"}}}}}
	edit(&spec)
	c.Put(work, &batchv1.Job{Spec: spec})
	return c
}

func (c *cluster) decide() bool {
	d := c.Decide(Reconciler{}, work)
	if len(d.Effects()) == 0 && d.Again > 0 && len(c.active()) == 0 {
		c.Advance(d.Again) // nothing else will happen before
		return true
	}
	return len(d.Effects()) > 0
}

func (c *cluster) active() []*corev1.Pod {
	var out []*corev1.Pod
	for _, p := range c.Pods() {
		if replica.Active(p) {
			out = append(out, p)
		}
	}
	return out
}

func (c *cluster) end() bool {
	for _, p := range c.active() {
		if p.Status.Phase == corev1.PodRunning {
			c.Advance(time.Second)
			c.End(p, c.exit(p))
			return true
		}
	}
	return false
}

func (c *cluster) run() *batchv1.JobStatus {
	c.Settle(func() { c.most = max(c.most, len(c.active())) }, c.decide, c.end)
	return &loop.Jobs.At(c.View(), work).Status
}

// expect checks the last word, and that no pod is held back.
func (c *cluster) expect(s *batchv1.JobStatus, last batchv1.JobConditionType, reason string, succeeded, failed int32) {
	c.t.Helper()
	u := s.UncountedTerminatedPods
	if !has(s, last, corev1.ConditionTrue) || s.Succeeded != succeeded || s.Failed != failed || s.Active != 0 || len(u.Failed)+len(u.Succeeded) > 0 {
		c.t.Errorf("status %+v", s)
	}
	for _, cond := range s.Conditions {
		if cond.Type == last && cond.Reason != reason {
			c.t.Errorf("because %s: %s", cond.Reason, cond.Message)
		}
	}
	for _, p := range c.Pods() {
		if len(p.Finalizers) > 0 {
			c.t.Errorf("%s keeps %v", p.Name, p.Finalizers)
		}
	}
}

func TestCompletes(t *testing.T) {
	for seed := range uint64(5) {
		c := newCluster(t, seed, func(*batchv1.JobSpec) {})
		s := c.run()
		c.expect(s, batchv1.JobComplete, batchv1.JobReasonCompletionsReached, 5, 0)
		if s.CompletionTime == nil || s.StartTime == nil || c.most > 2 {
			t.Errorf("%d were active at once, status %+v", c.most, s)
		}
	}
}

func TestFailsPastItsLimitAndWaitsBetween(t *testing.T) {
	c := newCluster(t, 1, func(s *batchv1.JobSpec) { s.Parallelism = new(int32(1)) })
	c.exit = func(*corev1.Pod) int32 { return 1 }
	s := c.run()
	c.expect(s, batchv1.JobFailed, batchv1.JobReasonBackoffLimitExceeded, 0, 4)
	if took := c.Now().Sub(looptest.Start); took < 70*time.Second { // 10 + 20 + 40
		t.Errorf("gave up after %s", took)
	}
}

func TestIndexesEachCompleteOnce(t *testing.T) {
	for seed := range uint64(5) {
		c := newCluster(t, seed, func(s *batchv1.JobSpec) {
			s.CompletionMode = new(batchv1.IndexedCompletion)
			s.Completions, s.Parallelism = new(int32(6)), new(int32(4))
		})
		failedOnce := false
		c.exit = func(p *corev1.Pod) int32 {
			if indexOf(p) == 2 && !failedOnce {
				failedOnce = true
				return 3
			}
			return 0
		}
		s := c.run()
		c.expect(s, batchv1.JobComplete, batchv1.JobReasonCompletionsReached, 6, 1)
		if s.CompletedIndexes != "0-5" {
			t.Errorf("completed %q", s.CompletedIndexes)
		}
		p := c.Pods()[0]
		if p.Spec.Containers[0].Env[0].Name != indexVariable || p.Spec.Hostname != fmt.Sprintf("work-%d", indexOf(p)) {
			t.Errorf("pod %+v", p.Spec)
		}
	}
}

func TestLimitPerIndex(t *testing.T) {
	c := newCluster(t, 1, func(s *batchv1.JobSpec) {
		s.CompletionMode = new(batchv1.IndexedCompletion)
		s.Completions, s.BackoffLimitPerIndex, s.BackoffLimit = new(int32(4)), new(int32(1)), new(int32(100))
	})
	c.exit = func(p *corev1.Pod) int32 { return int32(indexOf(p) % 2) }
	s := c.run()
	c.expect(s, batchv1.JobFailed, batchv1.JobReasonFailedIndexes, 2, 4)
	if s.CompletedIndexes != "0,2" || *s.FailedIndexes != "1,3" {
		t.Errorf("completed %q, failed %q", s.CompletedIndexes, *s.FailedIndexes)
	}
}

func TestPolicies(t *testing.T) {
	rules := func(action batchv1.PodFailurePolicyAction) *batchv1.PodFailurePolicy {
		return &batchv1.PodFailurePolicy{Rules: []batchv1.PodFailurePolicyRule{{Action: action, OnExitCodes: &batchv1.PodFailurePolicyOnExitCodesRequirement{
			Operator: batchv1.PodFailurePolicyOnExitCodesOpIn, Values: []int32{42}}}}}
	}
	c := newCluster(t, 1, func(s *batchv1.JobSpec) { s.PodFailurePolicy = rules(batchv1.PodFailurePolicyActionFailJob) })
	c.exit = func(*corev1.Pod) int32 { return 42 }
	if s := c.run(); !has(s, batchv1.JobFailed, corev1.ConditionTrue) || s.Failed > 2 {
		t.Errorf("status %+v", s)
	}
	c = newCluster(t, 2, func(s *batchv1.JobSpec) {
		s.PodFailurePolicy, s.BackoffLimit, s.Parallelism = rules(batchv1.PodFailurePolicyActionIgnore), new(int32(0)), new(int32(1))
	})
	n := 0
	c.exit = func(*corev1.Pod) int32 {
		if n++; n < 4 {
			return 42
		}
		return 0
	}
	c.expect(c.run(), batchv1.JobComplete, batchv1.JobReasonCompletionsReached, 5, 0)
	c = newCluster(t, 3, func(s *batchv1.JobSpec) {
		s.CompletionMode = new(batchv1.IndexedCompletion)
		s.SuccessPolicy = &batchv1.SuccessPolicy{Rules: []batchv1.SuccessPolicyRule{{SucceededIndexes: new("0")}}}
	})
	if s := c.run(); !has(s, batchv1.JobComplete, corev1.ConditionTrue) || !parseIndexes(s.CompletedIndexes).has(0) {
		t.Errorf("status %+v", s)
	}
}

func TestDeadlineSuspensionAndExpiry(t *testing.T) {
	c := newCluster(t, 1, func(s *batchv1.JobSpec) {
		s.Suspend, s.ActiveDeadlineSeconds, s.TTLSecondsAfterFinished = new(true), new(int64(60)), new(int32(30))
	})
	c.exit = func(*corev1.Pod) int32 { t.Error("ended"); return 0 }
	s := c.run()
	if !has(s, batchv1.JobSuspended, corev1.ConditionTrue) || s.StartTime != nil || len(c.Pods()) > 0 {
		t.Errorf("suspended: %+v", s)
	}
	j := loop.Jobs.At(c.View(), work).DeepCopy()
	j.Spec.Suspend = new(false)
	c.Put(work, j)
	c.Settle(nil, c.decide)
	if len(c.active()) != 2 {
		t.Errorf("resumed with %d pods", len(c.active()))
	}
	c.Advance(61 * time.Second)
	c.Settle(nil, c.decide)
	s = &loop.Jobs.At(c.View(), work).Status
	c.expect(s, batchv1.JobFailed, batchv1.JobReasonDeadlineExceeded, 0, 2)
	if d := c.Decide(Expiry{}, work); len(d.Effects()) > 0 || d.Again <= 0 {
		t.Errorf("expires at once:\n%s", looptest.Print(d))
	}
	c.Advance(31 * time.Second)
	if d := c.Decide(Expiry{}, work); len(d.Effects()) != 1 {
		t.Errorf("does not expire:\n%s", looptest.Print(d))
	}
}

func TestIndexesAreSpelledAsUpstreamDoes(t *testing.T) {
	for _, text := range []string{"", "0", "0,1", "0-2", "1,3-5,7,8,10-12"} {
		if got := parseIndexes(text).String(); got != text {
			t.Errorf("%q became %q", text, got)
		}
	}
}
