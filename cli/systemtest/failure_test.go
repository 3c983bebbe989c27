//go:build system

package systemtest

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

func TestKilledContainerRestarts(t *testing.T) {
	ns := demo(t)
	p := pods(t, ns, webSelector)[0]
	kill := func() {
		t.Helper()
		pids := containerPIDs(t, p)
		if len(pids) == 0 {
			t.Fatal("no process to kill")
		}
		must(t, "kill", append([]string{"-9"}, pids...)...)
	}
	kill()
	eventually(t, 30*time.Second, "the first restart", func() error { return restarted(pod(t, ns, p.Name), 1) })
	kill()
	eventually(t, 20*time.Second, "back-off of the second restart", func() error {
		out := must(t, "kubectl", "get", "pod", "-n", ns, p.Name)
		if !strings.Contains(out, "CrashLoopBackOff") {
			return fmt.Errorf("no CrashLoopBackOff in\n%s", out)
		}
		return nil
	})
	eventually(t, 40*time.Second, "the second restart", func() error { return restarted(pod(t, ns, p.Name), 2) })
	if got := pod(t, ns, p.Name); got.UID != p.UID || got.Status.PodIP != p.Status.PodIP {
		t.Errorf("the pod itself was replaced: uid %s -> %s, address %s -> %s", p.UID, got.UID, p.Status.PodIP, got.Status.PodIP)
	}
}

func restarted(p corev1.Pod, times int32) error {
	if len(p.Status.ContainerStatuses) != 1 {
		return fmt.Errorf("container statuses: %v", p.Status.ContainerStatuses)
	}
	c := p.Status.ContainerStatuses[0]
	if c.RestartCount != times || c.State.Running == nil || c.LastTerminationState.Terminated == nil {
		return fmt.Errorf("restarts %d, state %+v, last %+v", c.RestartCount, c.State, c.LastTerminationState)
	}
	if code := c.LastTerminationState.Terminated.ExitCode; code != 137 {
		return fmt.Errorf("exit code %d, want 137 (SIGKILL)", code)
	}
	return nil
}

func TestDeletedPodStopsGracefullyAndIsReplaced(t *testing.T) {
	ns := demo(t)
	p := pods(t, ns, webSelector)[0]
	log := start(t, "kubectl", "logs", "-n", ns, "-f", p.Name)
	time.Sleep(300 * time.Millisecond)
	must(t, "kubectl", "delete", "pod", "-n", ns, p.Name, "--timeout=40s")
	if out := log.stop(); !strings.Contains(out, "told to stop") {
		t.Errorf("the container was not asked to stop:\n%s", out)
	}
	readyPods(t, ns, webSelector, 3)
	if pids := containerPIDs(t, p); len(pids) != 0 {
		t.Errorf("processes of the deleted pod live on: %v", pids)
	}
}

func TestPodThatNoNodeHoldsSaysWhy(t *testing.T) {
	ns := namespace(t)
	apply(t, ns, `
apiVersion: v1
kind: Pod
metadata: {name: huge}
spec:
  containers:
  - name: c
    image: orlog.local/demo/web:1.0
    resources: {requests: {cpu: "1000"}}
`)
	eventually(t, 20*time.Second, "the reason", func() error {
		p := pod(t, ns, "huge")
		for _, c := range p.Status.Conditions {
			if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse && strings.Contains(c.Message, "0/1 nodes are available: 1 Insufficient cpu") {
				return nil
			}
		}
		return fmt.Errorf("phase %s, conditions %+v", p.Status.Phase, p.Status.Conditions)
	})
}

func TestMissingImageAndConfigMap(t *testing.T) {
	ns := namespace(t)
	apply(t, ns, `
apiVersion: v1
kind: Pod
metadata: {name: noimage}
spec:
  containers: [{name: c, image: "127.0.0.1:1/no/such:1"}]
---
apiVersion: v1
kind: Pod
metadata: {name: noconfig}
spec:
  containers:
  - name: c
    image: orlog.local/demo/web:1.0
    env: [{name: X, valueFrom: {configMapKeyRef: {name: absent, key: x}}}]
`)
	waiting := func(name string, want ...string) {
		t.Helper()
		eventually(t, 30*time.Second, name+" waiting with "+strings.Join(want, "|"), func() error {
			for _, c := range pod(t, ns, name).Status.ContainerStatuses {
				if c.State.Waiting != nil && slices.Contains(want, c.State.Waiting.Reason) {
					return nil
				}
			}
			return fmt.Errorf("statuses %+v", pod(t, ns, name).Status.ContainerStatuses)
		})
	}
	waiting("noimage", "ErrImagePull", "ImagePullBackOff")
	waiting("noconfig", "CreateContainerConfigError")
	must(t, "kubectl", "create", "configmap", "absent", "-n", ns, "--from-literal=x=1")
	must(t, "kubectl", "wait", "-n", ns, "--for=condition=Ready", "pod/noconfig", "--timeout=30s")
}

func TestInvalidManifestAppendsNothing(t *testing.T) {
	ns := namespace(t)
	manifest := file(t, `
apiVersion: apps/v1
kind: Deployment
metadata: {name: bad}
spec:
  selector: {matchLabels: {app: bad}}
  template:
    metadata: {labels: {app: bad}}
    spec:
      containers: [{name: c, image: x, ports: [{containerPort: 99999}]}]
`)
	said := mustFail(t, "kubectl", "apply", "-n", ns, "-f", manifest)
	if !strings.Contains(said, "spec.template.spec.containers[0].ports[0].containerPort") {
		t.Errorf("the refusal names no field:\n%s", said)
	}
	if out := must(t, "orlog", "tail", "--from", "1", "--follow=false"); strings.Contains(out, ns+"/bad") {
		t.Errorf("an event was appended for the refused manifest")
	}
}

func TestKillOrlogdAndAgent(t *testing.T) {
	ns := demo(t)
	before := map[string][]string{}
	for _, p := range pods(t, ns, webSelector) {
		before[p.Name] = containerPIDs(t, p)
	}
	unchanged := func(when string) {
		t.Helper()
		for _, p := range readyPods(t, ns, webSelector, len(before)) {
			if got := containerPIDs(t, p); !slices.Equal(got, before[p.Name]) {
				t.Errorf("%s: pod %s has pids %v, had %v", when, p.Name, got, before[p.Name])
			}
			if n := p.Status.ContainerStatuses[0].RestartCount; n != 0 {
				t.Errorf("%s: pod %s was restarted %d times", when, p.Name, n)
			}
		}
	}
	fails := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}

	fails(the.kill(&the.orlogd))
	fails(the.startOrlogd())
	unchanged("after kill -9 of orlogd")

	fails(the.kill(&the.agent))
	// What changes while the agent is away is caught up when it returns.
	must(t, "kubectl", "scale", "deployment/web", "-n", ns, "--replicas=4")
	fails(the.startAgent())
	for _, p := range readyPods(t, ns, webSelector, 4) {
		if old, had := before[p.Name]; had && !slices.Equal(containerPIDs(t, p), old) {
			t.Errorf("after kill -9 of the agent: pod %s has pids %v, had %v", p.Name, containerPIDs(t, p), old)
		}
	}
	must(t, "kubectl", "scale", "deployment/web", "-n", ns, "--replicas=3")
	readyPods(t, ns, webSelector, 3)

	// A container that dies while both are gone is restarted, with its exit code, when they return.
	victim := pods(t, ns, webSelector)[0]
	fails(the.kill(&the.agent))
	fails(the.kill(&the.orlogd))
	must(t, "kill", append([]string{"-9"}, containerPIDs(t, victim)...)...)
	fails(the.startOrlogd())
	fails(the.startAgent())
	eventually(t, 40*time.Second, "the restart of the container that died meanwhile", func() error {
		return restarted(pod(t, ns, victim.Name), 1)
	})
}
