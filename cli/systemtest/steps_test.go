//go:build system

package systemtest

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// namespace makes a Kubernetes namespace that is deleted when the test ends.
func namespace(t *testing.T) string {
	t.Helper()
	name := strings.ToLower(strings.NewReplacer("/", "-", "_", "-").Replace(t.Name()))
	must(t, "kubectl", "create", "namespace", name)
	t.Cleanup(func() {
		if t.Failed() {
			describe(t, name)
		}
		must(t, "kubectl", "delete", "namespace", name, "--timeout=90s")
	})
	return name
}

// describe logs what a person would look at first when a test has failed.
func describe(t *testing.T, ns string) {
	t.Helper()
	for _, args := range [][]string{{"get", "all", "-o", "wide", "-n", ns}, {"describe", "pods", "-n", ns}} {
		out, err := the.run("kubectl", args...)
		t.Logf("kubectl %s (%v)\n%s", strings.Join(args, " "), err, out)
	}
}

// must runs a command and fails the test where the command fails.
func must(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := the.run(name, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// mustFail runs a command that must be refused, and returns what it said.
func mustFail(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := the.run(name, args...)
	if err == nil {
		t.Fatalf("%s %s succeeded, and must not:\n%s", name, strings.Join(args, " "), out)
	}
	return err.Error()
}

// eventually waits until check returns nil.
func eventually(t *testing.T, limit time.Duration, what string, check func() error) {
	t.Helper()
	if err := the.await(limit, what, check); err != nil {
		t.Fatal(err)
	}
}

// apply hands a manifest to kubectl apply.
func apply(t *testing.T, ns, manifest string) {
	t.Helper()
	must(t, "kubectl", "apply", "-n", ns, "-f", file(t, manifest))
}

func file(t *testing.T, content string) string {
	t.Helper()
	f := filepath.Join(t.TempDir(), "manifest.yaml")
	if err := os.WriteFile(f, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return f
}

// repositoryFile is the path of a file in the checkout.
func repositoryFile(t *testing.T, path string) string {
	t.Helper()
	p, err := filepath.Abs(filepath.Join("..", "..", path))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func pods(t *testing.T, ns, selector string) []corev1.Pod {
	t.Helper()
	var list corev1.PodList
	if err := json.Unmarshal([]byte(must(t, "kubectl", "get", "pods", "-n", ns, "-l", selector, "-o", "json")), &list); err != nil {
		t.Fatal(err)
	}
	return list.Items
}

func pod(t *testing.T, ns, name string) corev1.Pod {
	t.Helper()
	var p corev1.Pod
	if err := json.Unmarshal([]byte(must(t, "kubectl", "get", "pod", "-n", ns, name, "-o", "json")), &p); err != nil {
		t.Fatal(err)
	}
	return p
}

func ready(p corev1.Pod) bool {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue && p.DeletionTimestamp == nil
		}
	}
	return false
}

// readyPods waits until exactly n pods of a selector exist and all are ready.
func readyPods(t *testing.T, ns, selector string, n int) []corev1.Pod {
	t.Helper()
	var got []corev1.Pod
	eventually(t, 60*time.Second, fmt.Sprintf("%d ready pods of %s", n, selector), func() error {
		got = pods(t, ns, selector)
		var ok int
		for _, p := range got {
			if ready(p) {
				ok++
			}
		}
		if ok != n || len(got) != n {
			return fmt.Errorf("%d of %d pods are ready, want %d", ok, len(got), n)
		}
		return nil
	})
	return got
}

// containerPIDs are the pids on the host of a pod's processes, read from cgroups, so that no word of Orlog's is
// taken for it.
func containerPIDs(t *testing.T, p corev1.Pod) []string {
	t.Helper()
	pids, err := pidsOf(p)
	if err != nil {
		t.Fatal(err)
	}
	return pids
}

func pidsOf(p corev1.Pod) ([]string, error) {
	procs, err := filepath.Glob("/proc/[0-9]*/cgroup")
	if err != nil {
		return nil, err
	}
	var pids []string
	for _, f := range procs {
		b, err := os.ReadFile(f)
		if err != nil {
			continue // the process ended meanwhile
		}
		if strings.Contains(string(b), string(p.UID)) {
			pids = append(pids, filepath.Base(filepath.Dir(f)))
		}
	}
	return pids, nil
}

// get asks a URL from the host of the cluster.
func get(url string) (string, error) {
	return the.run("curl", "-sS", "--fail", "--max-time", "3", url)
}

// background starts a command whose output is collected until stop is called.
type background struct {
	cmd    *exec.Cmd
	out    *strings.Builder
	cancel context.CancelFunc
}

func start(t *testing.T, name string, args ...string) *background {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	b := &background{cmd: the.inside(ctx, name, args...), out: &strings.Builder{}, cancel: cancel}
	b.cmd.Stdout = b.out
	b.cmd.WaitDelay = 5 * time.Second
	if err := b.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return b
}

// stop ends the command and returns what it had printed.
func (b *background) stop() string {
	b.cancel()
	_ = b.cmd.Wait() // it was killed: that it failed is no news
	return b.out.String()
}
