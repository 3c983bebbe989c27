package agent

import (
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/node/runc"
)

func TestPodFromBoundToStopped(t *testing.T) {
	b := newBench(t)
	p := pod("web", nil)
	bound := b.want(p, "bound")
	st := b.awaitReady(p)
	if st.PodIP != "10.9.0.7" || st.HostIP != "192.0.2.10" || st.StartTime == nil {
		t.Errorf("addresses and start time: %+v", st)
	}
	cs := st.ContainerStatuses[0]
	if cs.State.Running == nil || !cs.Ready || cs.RestartCount != 0 || cs.ImageID != "app@sha256:1" || !strings.HasPrefix(cs.ContainerID, "orlog://") {
		t.Errorf("container status: %+v", cs)
	}
	for _, e := range b.reports(p) {
		if e.Cause != bound || e.Correlation != bound || e.Actor != "system:node:n1" || e.Subject.Node != "n1" {
			t.Errorf("report %s: cause %d, correlation %d, actor %s", e.Type, e.Cause, e.Correlation, e.Actor)
		}
	}
	now := metav1.NewTime(time.Now())
	p.DeletionTimestamp, p.DeletionGracePeriodSeconds = &now, p.Spec.TerminationGracePeriodSeconds
	asked := b.want(p, "termination-requested")
	st = b.await(p, "stopped", func(verb string, _ *v1.PodStatus) bool { return verb == "stopped" })
	if end := st.ContainerStatuses[0].State.Terminated; end == nil || end.ExitCode != 143 || st.Phase != v1.PodFailed {
		t.Errorf("after deletion: phase %s, %+v", st.Phase, st.ContainerStatuses[0].State)
	}
	list := b.reports(p)
	if last := list[len(list)-1]; last.Cause != asked {
		t.Errorf("stopped is caused by %d, want %d", last.Cause, asked)
	}
	b.want(p, "deleted")
	deadline := time.Now().Add(10 * time.Second)
	for b.agent.worker(string(p.UID)) != nil {
		if time.Now().After(deadline) {
			t.Fatal("the pod is not forgotten")
		}
		time.Sleep(5 * time.Millisecond)
	}
	want := "connect web,open web,run web/main 0,signal main terminated,close web,disconnect"
	if got := strings.Join(b.world.told(), ","); got != want {
		t.Errorf("calls: %s\nwant:  %s", got, want)
	}
}

func TestRestartOfTheAgentRestartsNothing(t *testing.T) {
	b := newBench(t)
	p, q := pod("stays", nil), pod("falls", nil)
	b.want(p, "bound")
	b.want(q, "bound")
	b.awaitReady(p)
	id := idOf(b.awaitReady(q))
	reports := len(b.reports(p))

	b.stop()
	b.world.exit(string(q.UID), id, 3) // while nobody looks
	b.start()

	st := b.await(q, "restarted", func(verb string, st *v1.PodStatus) bool {
		return st.ContainerStatuses[0].RestartCount == 1 && st.ContainerStatuses[0].State.Running != nil
	})
	if last := st.ContainerStatuses[0].LastTerminationState.Terminated; last == nil || last.ExitCode != 3 || last.Reason != "Error" {
		t.Errorf("last state: %+v", last)
	}
	verbs := ""
	for _, e := range b.reports(q) {
		verbs += string(e.Verb()) + " "
	}
	if !strings.Contains(verbs, "exited restarted") {
		t.Errorf("reports: %s", verbs)
	}
	if n := len(b.reports(p)); n != reports {
		t.Errorf("%d new reports about a pod to which nothing happened", n-reports)
	}
	runs := 0
	for _, c := range b.world.told() {
		if strings.HasPrefix(c, "run stays") {
			runs++
		}
	}
	if runs != 1 {
		t.Errorf("the pod that ran on was started %d times", runs)
	}
}

func TestStraysAreClosedAndForeignConditionsKept(t *testing.T) {
	b := newBench(t)
	p := pod("gated", func(p *v1.Pod) {
		p.Spec.ReadinessGates = []v1.PodReadinessGate{{ConditionType: "example.com/ok"}}
	})
	b.want(p, "bound")
	st := b.await(p, "running", func(_ string, st *v1.PodStatus) bool { return st.Phase == v1.PodRunning })
	if podReady(st) {
		t.Error("ready before its gate is open")
	}
	st.Conditions = append(st.Conditions, v1.PodCondition{Type: "example.com/ok", Status: v1.ConditionTrue})
	b.observe(p, st)
	st = b.awaitReady(p)
	found := false
	for _, c := range st.Conditions {
		found = found || c.Type == "example.com/ok"
	}
	if !found {
		t.Error("the report lost the gate's condition")
	}

	b.stop()
	b.world.boxes["stray"], b.world.nets["stray"] = runc.Sandbox{ID: "stray"}, true
	b.start()
	deadline := time.Now().Add(10 * time.Second)
	for {
		b.world.mu.Lock()
		_, box := b.world.boxes["stray"]
		net := b.world.nets["stray"]
		b.world.mu.Unlock()
		if !box && !net {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the stray is still there")
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func TestImageThatCannotBePulledAndMissingConfig(t *testing.T) {
	b := newBench(t)
	p := pod("noimage", func(p *v1.Pod) { p.Spec.Containers[0].Image = "nope:1" })
	q := pod("noconfig", func(p *v1.Pod) {
		p.Spec.Containers[0].EnvFrom = []v1.EnvFromSource{{ConfigMapRef: &v1.ConfigMapEnvSource{LocalObjectReference: v1.LocalObjectReference{Name: "settings"}}}}
	})
	b.want(p, "bound")
	b.want(q, "bound")
	b.await(p, "waiting", func(_ string, st *v1.PodStatus) bool {
		w := st.ContainerStatuses[0].State.Waiting
		return st.Phase == v1.PodPending && w != nil && w.Reason == "ErrImagePull"
	})
	st := b.await(q, "waiting", func(_ string, st *v1.PodStatus) bool {
		w := st.ContainerStatuses[0].State.Waiting
		return w != nil && w.Reason == "CreateContainerConfigError"
	})
	if m := st.ContainerStatuses[0].State.Waiting.Message; m != `configmap "settings" not found` {
		t.Errorf("message %q", m)
	}
	b.append(events.Key{Resource: "configmaps", Namespace: "default", Name: "settings"}, "configmap", `{"metadata":{"name":"settings","namespace":"default","uid":"c1"},"data":{"A":"b"}}`)
	b.awaitReady(q)
	if env := strings.Join(b.world.specs["main"].Env, " "); env != "A=b" {
		t.Errorf("environment %q", env)
	}
}
