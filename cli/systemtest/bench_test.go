//go:build system

package systemtest

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/utils/ptr"
)

// The benchmarks measure what a user waits for, from the API call to what the watch shows, beside the floor of
// the same machine in the same run: runc alone, with or without a network. Each gives the median of its own rounds, so they
// are run once (-benchtime 1x). Run them with task bench; on a busy machine only the ratios mean something.

// client is a Kubernetes client that lives in this process.
func client(b *testing.B) *kubernetes.Clientset {
	b.Helper()
	c, err := kubernetes.NewForConfig(clientConfig(b, ""))
	if err != nil {
		b.Fatal(err)
	}
	return c
}

// clientConfig is how to reach the API, which listens inside the cluster's network namespace, with connections of
// its own and without a limit on requests. contentType "" is JSON.
func clientConfig(b *testing.B, contentType string) *rest.Config {
	b.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", the.kubeconfig)
	if err != nil {
		b.Fatal(err)
	}
	config.QPS, config.Dial, config.ContentType = -1, dialInside, contentType
	if contentType != "" {
		config.AcceptContentTypes = contentType + ",application/json"
	}
	return config
}

// median of at least one duration or number.
func median[T cmp.Ordered](values []T) T {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

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

// report gives the median of the rounds beside the floor of one.
func report(b *testing.B, rounds []time.Duration, floor time.Duration, name string) {
	b.Helper()
	each := median(rounds)
	b.ReportMetric(milliseconds(each), "ms")
	b.ReportMetric(milliseconds(floor), "ms/"+name)
	b.ReportMetric(float64(each)/float64(floor), "x-"+name)
	b.ReportMetric(0, "ns/op")
}

func BenchmarkOneReplicaUntilReady(b *testing.B) {
	floor, _ := containerFloor(b)
	c := client(b)
	var took []time.Duration
	for range 11 {
		begin := time.Now()
		benchDeployment(b, c, 1)
		untilReady(b, c, 1)
		took = append(took, time.Since(begin))
		removeBench(b, c)
	}
	report(b, took, floor, "runc-cni")
}

func BenchmarkScaleOneToFifty(b *testing.B) {
	_, floor := containerFloor(b)
	c := client(b)
	var up, down []time.Duration
	for range 5 {
		benchDeployment(b, c, 1)
		untilReady(b, c, 1)
		begin := time.Now()
		scaleTo(b, c, 50)
		untilReady(b, c, 50)
		up = append(up, time.Since(begin))
		begin = time.Now()
		removeBench(b, c)
		down = append(down, time.Since(begin))
	}
	rate := 49 / median(up).Seconds()
	b.ReportMetric(rate, "pods/s")
	b.ReportMetric(floor, "pods/s-runc-cni")
	b.ReportMetric(rate/floor, "x-runc-cni")
	b.ReportMetric(milliseconds(median(down)), "ms/delete-50")
	b.ReportMetric(0, "ns/op")
}

func BenchmarkKilledProcessUntilReady(b *testing.B) {
	c, floor := client(b), runcFloor(b)
	var took []time.Duration
	for range 11 {
		benchDeployment(b, c, 1)
		untilReady(b, c, 1)
		took = append(took, killOne(b, c))
		removeBench(b, c)
	}
	report(b, took, floor, "bare-runc")
}

// killOne kills the one pod's processes and returns how long it took until a watch said that it runs again and is
// Ready.
func killOne(b *testing.B, c *kubernetes.Clientset) time.Duration {
	b.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	list, err := c.CoreV1().Pods("default").List(ctx, metav1.ListOptions{LabelSelector: "app=bench"})
	if err != nil {
		b.Fatal(err)
	}
	pids, err := pidsOf(list.Items[0])
	if err != nil {
		b.Fatal(err)
	}
	w, err := c.CoreV1().Pods("default").Watch(ctx, metav1.ListOptions{LabelSelector: "app=bench", ResourceVersion: list.ResourceVersion})
	if err != nil {
		b.Fatal(err)
	}
	defer w.Stop()
	begin := time.Now()
	for _, pid := range pids {
		n, err := strconv.Atoi(pid)
		if err != nil {
			b.Fatal(err)
		}
		if err := syscall.Kill(n, syscall.SIGKILL); err != nil {
			b.Fatalf("kill %d: %v", n, err)
		}
	}
	for e := range w.ResultChan() {
		if p, ok := e.Object.(*corev1.Pod); ok && len(p.Status.ContainerStatuses) == 1 && p.Status.ContainerStatuses[0].RestartCount == 1 && ready(*p) {
			return time.Since(begin)
		}
	}
	b.Fatal("the watch ended before the pod was ready again")
	return 0
}
