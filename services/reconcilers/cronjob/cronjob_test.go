package cronjob

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/orlog-io/orlog/services/loop"
	"github.com/orlog-io/orlog/services/loop/looptest"
)

func TestGolden(t *testing.T) { looptest.Golden(t, Reconciler{}, "testdata") }

// TestDueIsTheNewest compares the short cut with a walk through all times.
func TestDueIsTheNewest(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for _, schedule := range []string{"* * * * *", "*/5 * * * *", "30 6-16/4 * * 1-5", "0 0 1 * *", "@every 90s", "59 23 31 2 *", "0 3 * * *"} {
		zone := "Europe/Berlin"
		c, err := clockOf(&batchv1.CronJob{Spec: batchv1.CronJobSpec{Schedule: schedule, TimeZone: &zone}})
		if err != nil {
			t.Fatal(err)
		}
		for range 8 {
			since := looptest.Start.Add(time.Duration(r.Int64N(int64(300 * 24 * time.Hour)))).Truncate(time.Second)
			now := since.Add(time.Duration(r.Int64N(int64(10 * 24 * time.Hour))))
			var want time.Time
			for at := c.after(since); !at.IsZero() && !at.After(now); at = c.after(at) {
				want = at
			}
			if got := c.due(since, now); !got.Equal(want) {
				t.Fatalf("%q from %s to %s: %s, want %s", schedule, since, now, got, want)
			}
		}
	}
}

type story struct {
	*looptest.World
	t *testing.T
}

var key = loop.CronJobs.Key("default", "tick")

func tell(t *testing.T, edit func(*batchv1.CronJobSpec)) story {
	s := story{looptest.NewWorld(t), t}
	spec := batchv1.CronJobSpec{Schedule: "*/1 * * * *", ConcurrencyPolicy: batchv1.AllowConcurrent}
	if edit != nil {
		edit(&spec)
	}
	s.Put(key, &batchv1.CronJob{Spec: spec})
	return s
}

// pass lets time pass, deciding whenever the decider asked to be.
func (s story) pass(span time.Duration) {
	s.t.Helper()
	end := s.Now().Add(span)
	for steps := 0; ; steps++ {
		d := s.Decide(Reconciler{}, key)
		if len(d.Effects()) > 0 {
			continue
		}
		if d.Again == 0 || s.Now().Add(d.Again).After(end) {
			s.Advance(end.Sub(s.Now()))
			return
		}
		if steps > 1000 {
			s.t.Fatal("it never rests")
		}
		s.Advance(d.Again)
	}
}

func (s story) jobs() []string {
	var out []string
	for _, j := range loop.Jobs.List(s.View(), "") {
		out = append(out, j.Name)
	}
	return out
}

func (s story) expect(minutes ...int) {
	s.t.Helper()
	var want []string
	for _, m := range minutes {
		want = append(want, fmt.Sprintf("tick-%d", looptest.Start.Unix()/60+int64(m)))
	}
	if got := s.jobs(); !slices.Equal(got, want) {
		s.t.Errorf("jobs %v, want %v", got, want)
	}
}

func (s story) end(kind batchv1.JobConditionType) {
	for _, j := range loop.Jobs.List(s.View(), "") {
		if verdict(j) == "" {
			at := metav1.NewTime(s.Now())
			s.Report(loop.Jobs.KeyOf(j), batchv1.JobStatus{StartTime: &at, CompletionTime: &at, Conditions: []batchv1.JobCondition{{Type: kind, Status: corev1.ConditionTrue}}})
		}
	}
}

func TestConcurrencyPolicies(t *testing.T) {
	s := tell(t, nil)
	s.pass(3*time.Minute + time.Second)
	s.expect(1, 2, 3)
	if c := loop.CronJobs.At(s.View(), key); len(c.Status.Active) != 3 || c.Status.LastScheduleTime.Sub(looptest.Start) != 3*time.Minute {
		t.Errorf("status %+v", c.Status)
	}
	s = tell(t, func(c *batchv1.CronJobSpec) { c.ConcurrencyPolicy = batchv1.ForbidConcurrent })
	s.pass(3*time.Minute + time.Second)
	s.expect(1)
	s.end(batchv1.JobComplete)
	s.pass(0) // the newest of those that were held back starts
	s.expect(1, 3)
	s = tell(t, func(c *batchv1.CronJobSpec) { c.ConcurrencyPolicy = batchv1.ReplaceConcurrent })
	s.pass(3*time.Minute + time.Second)
	s.expect(3)
}

func TestSuspendedAndLate(t *testing.T) {
	s := tell(t, func(c *batchv1.CronJobSpec) { c.Suspend, c.StartingDeadlineSeconds = new(true), new(int64(30)) })
	s.pass(10*time.Minute + 40*time.Second)
	s.expect()
	c := loop.CronJobs.At(s.View(), key).DeepCopy()
	c.Spec.Suspend = nil
	s.Put(key, c)
	s.pass(0)
	s.expect() // the last time is 40 seconds ago, which is too late
	s.pass(30 * time.Second)
	s.expect(11)
}

func TestHistory(t *testing.T) {
	s := tell(t, func(c *batchv1.CronJobSpec) {
		c.SuccessfulJobsHistoryLimit, c.FailedJobsHistoryLimit = new(int32(2)), new(int32(1))
	})
	for i := range 8 {
		s.pass(time.Minute)
		s.end([]batchv1.JobConditionType{batchv1.JobComplete, batchv1.JobFailed}[i%2])
	}
	s.pass(30 * time.Second)
	if got := s.jobs(); len(got) != 4 {
		t.Errorf("jobs %v", got)
	}
	if c := loop.CronJobs.At(s.View(), key); len(c.Status.Active) != 1 || c.Status.LastSuccessfulTime == nil {
		t.Errorf("status %+v", c.Status)
	}
}
