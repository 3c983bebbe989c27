//go:build system

package systemtest

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/utils/ptr"
)

// The benchmarks measure what a user waits for, from the API call to what the watch shows, beside the floor of
// the same machine in the same run: runc alone, without a network. Run them with task bench; on a busy machine
// only the ratios mean something.

// client is a Kubernetes client that lives in this process. The cluster's API listens inside a network namespace,
// so its one thread is moved there while the connection is made.
func client(b *testing.B) *kubernetes.Clientset {
	b.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", the.kubeconfig)
	if err != nil {
		b.Fatal(err)
	}
	config.QPS = -1
	config.Dial = dialInside
	c, err := kubernetes.NewForConfig(config)
	if err != nil {
		b.Fatal(err)
	}
	return c
}

func benchDeployment(b *testing.B, c *kubernetes.Clientset, replicas int32) {
	b.Helper()
	labels := map[string]string{"app": "bench"}
	d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "bench"}, Spec: appsv1.DeploymentSpec{Replicas: ptr.To(replicas),
		Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels},
			Spec: corev1.PodSpec{TerminationGracePeriodSeconds: ptr.To[int64](1), Containers: []corev1.Container{{Name: "web",
				Image: "orlog.local/demo/web:1.0", ImagePullPolicy: corev1.PullIfNotPresent}}}}}}
	if _, err := c.AppsV1().Deployments("default").Create(context.Background(), d, metav1.CreateOptions{}); err != nil {
		b.Fatal(err)
	}
}

// untilReady waits, by a watch, until n pods of the benchmark are Ready (0: until none is left).
func untilReady(b *testing.B, c *kubernetes.Clientset, n int) {
	b.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	w, err := c.CoreV1().Pods("default").Watch(ctx, metav1.ListOptions{LabelSelector: "app=bench", SendInitialEvents: ptr.To(true),
		ResourceVersionMatch: metav1.ResourceVersionMatchNotOlderThan, AllowWatchBookmarks: true})
	if err != nil {
		b.Fatal(err)
	}
	defer w.Stop()
	state, listed := map[types.UID]bool{}, false
	for e := range w.ResultChan() {
		p, ok := e.Object.(*corev1.Pod)
		switch {
		case !ok:
			b.Fatalf("watch: %v", e.Object)
		case e.Type == "BOOKMARK":
			listed = true
		case e.Type == "DELETED":
			delete(state, p.UID)
		default:
			state[p.UID] = ready(*p)
		}
		var up int
		for _, r := range state {
			if r {
				up++
			}
		}
		if listed && up == n && (n > 0 || len(state) == 0) {
			return
		}
	}
	b.Fatalf("the watch ended before %d pods were ready", n)
}

func scaleTo(b *testing.B, c *kubernetes.Clientset, n int) {
	b.Helper()
	patch := fmt.Appendf(nil, `{"spec":{"replicas":%d}}`, n)
	if _, err := c.AppsV1().Deployments("default").Patch(context.Background(), "bench", types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		b.Fatal(err)
	}
}

func removeBench(b *testing.B, c *kubernetes.Clientset) {
	b.Helper()
	background := metav1.DeletePropagationBackground
	if err := c.AppsV1().Deployments("default").Delete(context.Background(), "bench", metav1.DeleteOptions{PropagationPolicy: &background}); err != nil {
		b.Fatal(err)
	}
	untilReady(b, c, 0)
}

// runcFloor is the time of one bare "runc run" of a program that ends at once.
func runcFloor(b *testing.B) time.Duration {
	b.Helper()
	dir := b.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "rootfs"), 0o755); err != nil {
		b.Fatal(err)
	}
	if out, err := exec.Command("cp", filepath.Join(the.bin, "demo-web"), filepath.Join(dir, "rootfs", "demo-web")).CombinedOutput(); err != nil {
		b.Fatalf("%v: %s", err, out)
	}
	runcPath := filepath.Join(the.bin, "runc")
	if out, err := exec.Command(runcPath, "spec", "--bundle", dir).CombinedOutput(); err != nil {
		b.Fatalf("%v: %s", err, out)
	}
	raw, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err != nil {
		b.Fatal(err)
	}
	var spec map[string]any
	if err := json.Unmarshal(raw, &spec); err != nil {
		b.Fatal(err)
	}
	process := spec["process"].(map[string]any)
	process["args"], process["terminal"] = []string{"/demo-web", "version"}, false
	delete(process, "rlimits") // raising them needs CAP_SYS_RESOURCE
	if raw, err = json.Marshal(spec); err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), raw, 0o600); err != nil {
		b.Fatal(err)
	}
	const runs = 10
	begin := time.Now()
	for i := range runs {
		if out, err := exec.Command(runcPath, "--root", filepath.Join(dir, "state"), "run", "--bundle", dir, the.id+strconv.Itoa(i)).CombinedOutput(); err != nil {
			b.Fatalf("runc run: %v: %s", err, out)
		}
	}
	return time.Since(begin) / runs
}

func report(b *testing.B, total time.Duration, floor time.Duration, pods int) {
	each := total / time.Duration(b.N)
	b.ReportMetric(float64(each.Microseconds())/1000, "ms")
	b.ReportMetric(float64(floor.Microseconds())/1000, "ms/bare-runc")
	b.ReportMetric(float64(each)/float64(floor)/float64(pods), "x-runc/pod")
	if pods > 1 {
		b.ReportMetric(float64(pods)/each.Seconds(), "pods/s")
	}
	b.ReportMetric(0, "ns/op")
}

func BenchmarkOneReplicaUntilReady(b *testing.B) {
	c, floor := client(b), runcFloor(b)
	var total time.Duration
	for range b.N {
		begin := time.Now()
		benchDeployment(b, c, 1)
		untilReady(b, c, 1)
		total += time.Since(begin)
		removeBench(b, c)
	}
	report(b, total, floor, 1)
}

func BenchmarkScaleOneToFifty(b *testing.B) {
	c, floor := client(b), runcFloor(b)
	var up, down time.Duration
	for range b.N {
		benchDeployment(b, c, 1)
		untilReady(b, c, 1)
		begin := time.Now()
		scaleTo(b, c, 50)
		untilReady(b, c, 50)
		up += time.Since(begin)
		begin = time.Now()
		removeBench(b, c)
		down += time.Since(begin)
	}
	report(b, up, floor, 49)
	b.ReportMetric(float64((down / time.Duration(b.N)).Milliseconds()), "ms/delete-50")
}

func BenchmarkKilledProcessUntilReady(b *testing.B) {
	c, floor := client(b), runcFloor(b)
	var total time.Duration
	for range b.N {
		benchDeployment(b, c, 1)
		untilReady(b, c, 1)
		list, err := c.CoreV1().Pods("default").List(context.Background(), metav1.ListOptions{LabelSelector: "app=bench"})
		if err != nil {
			b.Fatal(err)
		}
		p := list.Items[0]
		pids, err := pidsOf(p)
		if err != nil {
			b.Fatal(err)
		}
		begin := time.Now()
		if out, err := exec.Command("kill", append([]string{"-9"}, pids...)...).CombinedOutput(); err != nil {
			b.Fatalf("kill: %v: %s", err, out)
		}
		w, err := c.CoreV1().Pods("default").Watch(context.Background(), metav1.ListOptions{LabelSelector: "app=bench", ResourceVersion: p.ResourceVersion})
		if err != nil {
			b.Fatal(err)
		}
		for e := range w.ResultChan() {
			if q, ok := e.Object.(*corev1.Pod); ok && len(q.Status.ContainerStatuses) == 1 && q.Status.ContainerStatuses[0].RestartCount == 1 && ready(*q) {
				break
			}
		}
		total += time.Since(begin)
		w.Stop()
		removeBench(b, c)
	}
	report(b, total, floor, 1)
}

// BenchmarkIdle reports what the control plane and the agent hold and use while nothing happens.
func BenchmarkIdle(b *testing.B) {
	ticks := func(pid int) float64 {
		raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			b.Fatal(err)
		}
		f := strings.Fields(string(raw)[strings.LastIndexByte(string(raw), ')')+2:])
		var sum float64
		for _, n := range f[11:13] { // utime, stime
			v, err := strconv.ParseFloat(n, 64)
			if err != nil {
				b.Fatal(err)
			}
			sum += v
		}
		return sum
	}
	const window = 10 * time.Second
	for _, p := range []*process{the.orlogd, the.agent} {
		pid := p.cmd.Process.Pid
		before := ticks(pid)
		time.Sleep(window)
		b.ReportMetric((ticks(pid)-before)/window.Seconds(), p.name+"-%core") // a tick is 10 ms
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			b.Fatal(err)
		}
		for line := range strings.Lines(string(status)) {
			if f := strings.Fields(line); len(f) > 1 && f[0] == "VmRSS:" {
				kib, err := strconv.ParseFloat(f[1], 64)
				if err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(kib/1024, p.name+"-MiB")
			}
		}
	}
	runtime.KeepAlive(the)
	b.ReportMetric(0, "ns/op")
}
