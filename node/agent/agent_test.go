package agent

import (
	"fmt"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
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
	if env := strings.Join(b.world.specs["main"].Env, " "); env != "HOSTNAME=noconfig A=b" {
		t.Errorf("environment %q", env)
	}
}

// While the agent was away, or beside it, somebody declared the pod lost: the node says that it is not.
func TestAnothersVerdictIsCorrected(t *testing.T) {
	b := newBench(t)
	p := pod("web", nil)
	b.want(p, "bound")
	lost := func(st *v1.PodStatus) {
		t.Helper()
		st = st.DeepCopy()
		for i := range st.Conditions {
			if st.Conditions[i].Type == v1.PodReady {
				st.Conditions[i].Status = v1.ConditionFalse
			}
		}
		b.observe(p, st)
	}
	lost(b.awaitReady(p))
	st := b.awaitReady(p)
	b.stop()
	lost(st)
	b.start()
	b.awaitReady(p)
	for _, e := range b.reports(p)[1:] {
		if e.Actor == "system:node:n1" && e.Verb() != "ready" {
			t.Errorf("the node said %s", e.Verb())
		}
	}
}

// Whatever the agent had just done when it died, it goes on from there and does nothing twice.
func TestDeathAfterEveryStep(t *testing.T) {
	for _, call := range []string{"connect web", "open web", "run web/main 0", "signal main terminated", "close web", "disconnect"} {
		t.Run(call, func(t *testing.T) {
			b := newBench(t)
			b.world.crash = call
			p := pod("web", nil)
			revive := func() {
				<-b.done
				b.stop()
				b.start()
			}
			b.want(p, "bound")
			early := strings.HasSuffix(call, "web") && call != "close web" || strings.HasPrefix(call, "run")
			if early {
				revive()
			}
			st := b.awaitReady(p)
			if st.ContainerStatuses[0].RestartCount != 0 {
				t.Errorf("restarts: %d", st.ContainerStatuses[0].RestartCount)
			}
			now := metav1.NewTime(time.Now())
			p.DeletionTimestamp, p.DeletionGracePeriodSeconds = &now, p.Spec.TerminationGracePeriodSeconds
			b.want(p, "termination-requested")
			if !early {
				revive()
			}
			st = b.await(p, "stopped", func(verb string, _ *v1.PodStatus) bool { return verb == "stopped" })
			if end := st.ContainerStatuses[0].State.Terminated; end == nil || end.ExitCode != 143 {
				t.Errorf("exit: %+v", st.ContainerStatuses[0].State)
			}
			calls := strings.Join(b.world.told(), ",")
			for _, once := range []string{"connect web", "run web/main 0", "close web", "disconnect"} {
				if n := strings.Count(calls, once); n != 1 {
					t.Errorf("%s: %d times in %s", once, n, calls)
				}
			}
			verbs := map[string]int{}
			for _, e := range b.reports(p) {
				verbs[string(e.Verb())]++
			}
			if verbs["started"] != 1 || verbs["stopped"] != 1 || verbs["failed"]+verbs["exited"] != 1 {
				t.Errorf("reports: %v", verbs)
			}
		})
	}
}

func TestAdmission(t *testing.T) {
	b := newBench(t)
	port := func(ip string) func(*v1.Pod) {
		return func(p *v1.Pod) {
			p.Spec.Containers[0].Ports = []v1.ContainerPort{{ContainerPort: 80, HostPort: 8080, HostIP: ip}}
		}
	}
	first, clash, other := pod("first", port("192.0.2.1")), pod("clash", port("")), pod("other", port("192.0.2.2"))
	other.Spec.Containers[0].Resources.Requests = v1.ResourceList{"example.com/gpu": resource.MustParse("2")} // none of the agent's affair
	b.want(first, "bound")
	b.awaitReady(first)
	b.want(clash, "bound")
	b.want(other, "bound")
	b.awaitReady(other)
	st := b.await(clash, "rejected", func(verb string, st *v1.PodStatus) bool { return st.Phase == v1.PodFailed })
	if st.Reason != "NodePorts" || len(st.ContainerStatuses) != 0 {
		t.Errorf("status %+v", st)
	}
	huge := pod("huge", func(p *v1.Pod) {
		p.Spec.Containers[0].Resources.Requests = v1.ResourceList{v1.ResourceCPU: resource.MustParse("100000")}
	})
	b.want(huge, "bound")
	st = b.await(huge, "rejected", func(_ string, st *v1.PodStatus) bool { return st.Phase == v1.PodFailed })
	if st.Reason != "OutOfcpu" || !strings.Contains(st.Message, "requested: 100000000, used: 0") {
		t.Errorf("status %s %s", st.Reason, st.Message)
	}
}

func TestFallbackMessage(t *testing.T) {
	var log strings.Builder
	for i := range 100 {
		fmt.Fprintf(&log, "2026-11-20T14:05:00.0Z stderr F line %d\n", i)
	}
	log.WriteString("2026-11-20T14:05:00.0Z stderr P half \n2026-11-20T14:05:00.0Z stderr F line\n")
	got := fallback([]byte(log.String()))
	if n := strings.Count(got, "\n"); n != fallbackLines || !strings.HasPrefix(got, "line 21\n") || !strings.HasSuffix(got, "line 99\nhalf line\n") {
		t.Errorf("%d lines: %q", n, got)
	}
}
