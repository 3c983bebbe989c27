//go:build system

package systemtest

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// webSelector picks the demo deployment's pods.
const webSelector = "app=web"

// demo applies the Deployment and Service of deploy/demo into a namespace of the test's own.
func demo(t *testing.T) string {
	t.Helper()
	ns := namespace(t)
	for _, f := range []string{"10-config.yaml", "20-web.yaml"} {
		must(t, "kubectl", "apply", "-n", ns, "-f", repositoryFile(t, "deploy/demo/"+f))
	}
	readyPods(t, ns, webSelector, 3)
	return ns
}

func TestDemoRunsAndItsServiceAnswers(t *testing.T) {
	ns := demo(t)
	seen := map[string]bool{}
	for _, p := range pods(t, ns, webSelector) {
		if p.Status.PodIP == "" || seen[p.Status.PodIP] {
			t.Errorf("pod %s has address %q, want one of its own", p.Name, p.Status.PodIP)
		}
		seen[p.Status.PodIP] = true
		if len(containerPIDs(t, p)) == 0 {
			t.Errorf("pod %s has no process in a cgroup of its own", p.Name)
		}
	}

	ip := must(t, "kubectl", "get", "service", "web", "-n", ns, "-o", "jsonpath={.spec.clusterIP}")
	spread := func(from string, ask func() (string, error)) {
		t.Helper()
		answers := map[string]int{}
		eventually(t, 30*time.Second, "answers from every pod, asked from "+from, func() error {
			out, err := ask()
			if err != nil {
				return err
			}
			answers[strings.Fields(out)[2]]++
			if len(answers) < 3 {
				return fmt.Errorf("answers so far: %v", answers)
			}
			return nil
		})
	}
	spread("the host", func() (string, error) { return get("http://" + ip + "/") })

	asker := pods(t, ns, webSelector)[0].Name // one of the pods behind the service: it reaches itself through it, too
	for _, url := range []string{"http://" + ip + "/", "http://web." + ns + ".svc.cluster.local/", "http://web/"} {
		spread("a pod by "+url, func() (string, error) {
			return the.run("kubectl", "exec", "-n", ns, asker, "--", "/demo-web", "get", url)
		})
	}
}

func TestOrlogAppliesTheWholeDemo(t *testing.T) {
	must(t, "orlog", "apply", "-f", repositoryFile(t, "deploy/demo/"))
	t.Cleanup(func() {
		must(t, "orlog", "delete", "-f", repositoryFile(t, "deploy/demo/"), "--timeout=90s", "--ignore-not-found")
	})
	readyPods(t, "default", webSelector, 3)
	readyPods(t, "demo", "app=workers", 2)
	readyPods(t, "demo", "app=hello", 1)
	if out := must(t, "orlog", "apply", "-f", repositoryFile(t, "deploy/demo/")); strings.Contains(out, "created") || strings.Contains(out, "configured") {
		t.Errorf("a second apply changed something:\n%s", out)
	}
}

func TestRollingUpdateKeepsEveryReplica(t *testing.T) {
	ns := demo(t)
	watch := start(t, "kubectl", "get", "deployment", "web", "-n", ns, "-w", "-o", "jsonpath={.status.availableReplicas}{\"\\n\"}")
	must(t, "kubectl", "set", "image", "deployment/web", "-n", ns, "web=orlog.local/demo/web:2.0")
	must(t, "kubectl", "rollout", "status", "deployment/web", "-n", ns, "--timeout=90s")
	seen := watch.stop()
	for _, l := range strings.Fields(seen) {
		if l < "3" {
			t.Errorf("availableReplicas fell to %s during the roll; maxUnavailable is 0. Seen: %q", l, strings.Fields(seen))
		}
	}
	ip := must(t, "kubectl", "get", "service", "web", "-n", ns, "-o", "jsonpath={.spec.clusterIP}")
	eventually(t, 20*time.Second, "version 2.0", func() error { return answers(ip, "version 2.0") })

	if out := must(t, "kubectl", "rollout", "history", "deployment/web", "-n", ns); !strings.Contains(out, "1 ") || !strings.Contains(out, "2 ") {
		t.Errorf("rollout history shows no two revisions:\n%s", out)
	}
	must(t, "kubectl", "rollout", "undo", "deployment/web", "-n", ns)
	must(t, "kubectl", "rollout", "status", "deployment/web", "-n", ns, "--timeout=90s")
	eventually(t, 20*time.Second, "version 1.0 again", func() error { return answers(ip, "version 1.0") })

	must(t, "kubectl", "rollout", "pause", "deployment/web", "-n", ns)
	must(t, "kubectl", "set", "image", "deployment/web", "-n", ns, "web=orlog.local/demo/web:2.0")
	time.Sleep(2 * time.Second)
	if err := answers(ip, "version 1.0"); err != nil {
		t.Errorf("a paused deployment rolled: %v", err)
	}
	must(t, "kubectl", "rollout", "resume", "deployment/web", "-n", ns)
	must(t, "kubectl", "rollout", "status", "deployment/web", "-n", ns, "--timeout=90s")
	before := readyPods(t, ns, webSelector, 3)
	must(t, "kubectl", "rollout", "restart", "deployment/web", "-n", ns)
	must(t, "kubectl", "rollout", "status", "deployment/web", "-n", ns, "--timeout=90s")
	for _, p := range readyPods(t, ns, webSelector, 3) {
		for _, old := range before {
			if p.UID == old.UID {
				t.Errorf("pod %s survived rollout restart", p.Name)
			}
		}
	}
}

func answers(ip, want string) error {
	out, err := get("http://" + ip + "/")
	if err == nil && !strings.Contains(out, want) {
		err = fmt.Errorf("answered %q, want %q", out, want)
	}
	return err
}

func TestScale(t *testing.T) {
	ns := demo(t)
	must(t, "kubectl", "scale", "deployment/web", "-n", ns, "--replicas=6")
	readyPods(t, ns, webSelector, 6)
	must(t, "kubectl", "scale", "deployment/web", "-n", ns, "--replicas=1")
	readyPods(t, ns, webSelector, 1)
}

func TestEverydayCommands(t *testing.T) {
	ns := demo(t)
	p := pods(t, ns, webSelector)[0]
	contains := func(want string, args ...string) {
		t.Helper()
		if out := must(t, "orlog", append([]string{"-n", ns}, args...)...); !strings.Contains(out, want) {
			t.Errorf("orlog %s: no %q in\n%s", strings.Join(args, " "), want, out)
		}
	}
	contains(p.Status.PodIP, "get", "pods", "-o", "wide")
	contains("Successfully assigned", "describe", "pod", p.Name)
	contains("replicas", "explain", "deployment.spec")
	contains("listening on :8080", "logs", p.Name)
	contains("version 1.0", "exec", p.Name, "-c", "web", "--", "/demo-web", "version")
	contains("labeled", "label", "pod", p.Name, "seen=yes")
	contains("serverside-applied", "apply", "--server-side", "--force-conflicts", "-f", repositoryFile(t, "deploy/demo/20-web.yaml"))
	out, err := the.run("kubectl", "diff", "-n", ns, "-f", repositoryFile(t, "deploy/demo/20-web.yaml"))
	if err != nil {
		t.Errorf("diff against what was applied: %v\n%s", err, out)
	}
	follow := start(t, "kubectl", "logs", "-n", ns, "-f", p.Name)
	eventually(t, 10*time.Second, "a logged request", func() error {
		if _, err := get("http://" + p.Status.PodIP + ":8080/"); err != nil {
			return err
		}
		if log := must(t, "kubectl", "logs", "-n", ns, p.Name); !strings.Contains(log, "GET / from") {
			return fmt.Errorf("log is %q", log)
		}
		return nil
	})
	time.Sleep(500 * time.Millisecond)
	if log := follow.stop(); !strings.Contains(log, "GET / from") {
		t.Errorf("logs -f did not follow:\n%s", log)
	}
}

func TestInteractiveExec(t *testing.T) {
	ns := namespace(t)
	must(t, "kubectl", "run", "sh", "-n", ns, "--image=orlog.local/test/busybox:1", "--restart=Never", "--", "-c", "sleep 3600")
	must(t, "kubectl", "wait", "-n", ns, "--for=condition=Ready", "pod/sh", "--timeout=30s")
	// script(1) gives kubectl a terminal.
	out := must(t, "sh", "-c", "(sleep 1; echo 'tty; stty size; exit 7'; sleep 1) | script -qefc 'stty cols 91 rows 31; kubectl exec -n "+ns+" -it sh -- /bin/sh' /dev/null; echo code=$?")
	for _, want := range []string{"/dev/pts/", "31 91", "code=7"} {
		if !strings.Contains(out, want) {
			t.Errorf("exec -it: no %q in\n%s", want, out)
		}
	}
}

func TestEdit(t *testing.T) {
	ns := demo(t)
	must(t, "sh", "-c", "EDITOR=\"sed -i 's/replicas: 3/replicas: 2/'\" kubectl edit -n "+ns+" deployment/web")
	readyPods(t, ns, webSelector, 2)
}

func TestHelm(t *testing.T) {
	ns := namespace(t)
	chart := repositoryFile(t, "deploy/demo/chart")
	must(t, "helm", "install", "shop", chart, "-n", ns, "--wait", "--timeout", "60s")
	readyPods(t, ns, "app.kubernetes.io/instance=shop", 2)
	must(t, "helm", "upgrade", "shop", chart, "-n", ns, "--set", "replicas=3", "--set", "image=orlog.local/demo/web:2.0", "--wait", "--timeout", "60s")
	readyPods(t, ns, "app.kubernetes.io/instance=shop", 3)
	must(t, "helm", "rollback", "shop", "1", "-n", ns, "--wait", "--timeout", "60s")
	readyPods(t, ns, "app.kubernetes.io/instance=shop", 2)
	must(t, "helm", "uninstall", "shop", "-n", ns, "--wait", "--timeout", "60s")
	readyPods(t, ns, "app.kubernetes.io/instance=shop", 0)
}
