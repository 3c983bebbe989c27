//go:build system

package systemtest

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"
)

const (
	protobuf   = runtime.ContentTypeProtobuf
	benchSpace = "bench"
	listed     = 5000 // pods that the API benchmarks create and list
	// createRounds is in how many turns they are created in each format: short ones, as the machine's own pace drifts.
	createRounds = 20
)

// BenchmarkAPI creates pods by ten clients at once, which speak protobuf or JSON, and lists them all, as they are and as
// they were a moment ago. No scheduler feels called upon, so that nothing but the API is measured. The peer is
// Kubernetes' control plane; the two take turns.
func BenchmarkAPI(b *testing.B) {
	floor := rawSyncs(b, 1024, time.Second)
	us := &measuredAPI{config: func(contentType string) *rest.Config { return clientConfig(b, contentType) }}
	kube := &measuredAPI{config: startKube(b)}
	for _, api := range []*measuredAPI{us, kube} {
		benchNamespace(b, api.config.clientset(b, ""))
	}
	creates := map[format]*createRates{}
	for range createRounds {
		for _, format := range formats {
			if creates[format] == nil {
				creates[format] = &createRates{}
			}
			const n = listed / createRounds / len(formats)
			r := creates[format]
			r.ours, r.theirs = append(r.ours, us.create(b, format, n)), append(r.theirs, kube.create(b, format, n))
			r.dry = append(r.dry, us.create(b, format, n, metav1.DryRunAll))
		}
	}
	past := us.forgetOne(b)
	kube.forgetOne(b)
	for _, format := range formats {
		ours, theirs, dry := median(creates[format].ours), median(creates[format].theirs), median(creates[format].dry)
		b.Run("create/"+format.name, func(b *testing.B) {
			b.ReportMetric(ours, "creates/s")
			b.ReportMetric(theirs, "creates/s-kube")
			b.ReportMetric(ours/theirs, "x-kube")
			b.ReportMetric(dry, "creates/s-dry-run")
			b.ReportMetric(floor, "syncs/s")
			b.ReportMetric(0, "ns/op")
		})
		b.Run("list/"+format.name, func(b *testing.B) {
			now, size, bare := us.list(b, "", format)
			theirs, _, _ := kube.list(b, "", format)
			before, _, _ := us.list(b, "/at/"+past, format)
			b.ReportMetric(milliseconds(now), "ms")
			b.ReportMetric(milliseconds(theirs), "ms-kube")
			b.ReportMetric(float64(now)/float64(theirs), "x-kube")
			b.ReportMetric(milliseconds(before), "ms/past")
			b.ReportMetric(float64(before)/float64(now), "x-past")
			b.ReportMetric(milliseconds(bare), "ms/bare-https")
			b.ReportMetric(float64(size)/1e6, "MB/list")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// createRates are creates a second, in each round. A dry run is all that upstream's handlers do for a create, and
// instead of storing it a look whether the name is taken: about what there would be if the log cost nothing.
type createRates struct{ ours, theirs, dry []float64 }

type format struct{ name, contentType string }

var formats = [2]format{{"protobuf", protobuf}, {"json", runtime.ContentTypeJSON}}

// measuredAPI is an API under measurement, in a namespace that is there.
type measuredAPI struct {
	config  apiConfig
	pods    int64 // that were created
	clients map[format][]*kubernetes.Clientset
}

// clientsOf are ten clients of a format, each with connections of its own, which stay open.
func (a *measuredAPI) clientsOf(b *testing.B, f format) []*kubernetes.Clientset {
	b.Helper()
	if a.clients == nil {
		a.clients = map[format][]*kubernetes.Clientset{}
	}
	for len(a.clients[f]) < 10 {
		c := a.config.clientset(b, f.contentType)
		if _, err := c.CoreV1().Namespaces().Get(context.Background(), benchSpace, metav1.GetOptions{}); err != nil {
			b.Fatal(err)
		}
		a.clients[f] = append(a.clients[f], c)
	}
	return a.clients[f]
}

// create creates so many pods by ten clients, or tries to, and returns how many a second there were.
func (a *measuredAPI) create(b *testing.B, f format, n int, dryRun ...string) float64 {
	b.Helper()
	var next atomic.Int64
	next.Store(a.pods)
	last := a.pods + int64(n)
	if len(dryRun) == 0 {
		a.pods = last
	}
	clients := a.clientsOf(b, f)
	begin := time.Now()
	var group sync.WaitGroup
	for _, own := range clients {
		group.Go(func() {
			for i := next.Add(1); i <= last; i = next.Add(1) {
				if _, err := own.CoreV1().Pods(benchSpace).Create(context.Background(), benchPod(i), metav1.CreateOptions{DryRun: dryRun}); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	group.Wait()
	if b.Failed() {
		b.FailNow()
	}
	return float64(n) / time.Since(begin).Seconds()
}

// forgetOne deletes a pod, and returns the resource version before.
func (a *measuredAPI) forgetOne(b *testing.B) string {
	b.Helper()
	ctx, c := context.Background(), a.config.clientset(b, "")
	list, err := c.CoreV1().Pods(benchSpace).List(ctx, metav1.ListOptions{Limit: 1})
	if err != nil {
		b.Fatal(err)
	}
	if err := c.CoreV1().Pods(benchSpace).Delete(ctx, benchPod(1).Name, metav1.DeleteOptions{GracePeriodSeconds: ptr.To[int64](0)}); err != nil {
		b.Fatal(err)
	}
	return list.ResourceVersion
}

// benchNamespace makes the namespace, waits until it may hold pods, and takes it away after the benchmark.
func benchNamespace(b *testing.B, c *kubernetes.Clientset) {
	b.Helper()
	ctx := context.Background()
	if _, err := c.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: benchSpace}}, metav1.CreateOptions{}); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := c.CoreV1().Namespaces().Delete(ctx, benchSpace, metav1.DeleteOptions{}); err != nil {
			b.Error(err)
		}
		err := the.await(2*time.Minute, "the namespace's end", func() error {
			_, err := c.CoreV1().Namespaces().Get(ctx, benchSpace, metav1.GetOptions{})
			if apierrors.IsNotFound(err) {
				return nil
			}
			return fmt.Errorf("namespace %s: %w", benchSpace, err)
		})
		if err != nil {
			b.Error(err)
		}
	})
	if err := the.await(30*time.Second, "a service account", func() error {
		_, err := c.CoreV1().ServiceAccounts(benchSpace).Get(ctx, "default", metav1.GetOptions{})
		return err
	}); err != nil {
		b.Fatal(err)
	}
}

// benchPod is an ordinary pod, about 1.5 KB of JSON with what admission and defaulting add.
func benchPod(n int64) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("web-6d4cf56db6-%05d", n), Namespace: benchSpace,
			Labels: map[string]string{"app": "web", "pod-template-hash": "6d4cf56db6"}},
		Spec: corev1.PodSpec{SchedulerName: "nobody", AutomountServiceAccountToken: ptr.To(false), Containers: []corev1.Container{{Name: "web", Image: "registry.example/shop/web:1.4.2",
			Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("10m"), corev1.ResourceMemory: resource.MustParse("16Mi")}}}}},
	}
}

// list lists all pods of the benchmark at a place in the API's tree, and returns the median time until the last
// byte is here, the size, and how long bare HTTPS takes for the same bytes.
func (a *measuredAPI) list(b *testing.B, root string, f format) (took time.Duration, size int, bare time.Duration) {
	b.Helper()
	own := a.config(f.contentType)
	httpClient, err := rest.HTTPClientFor(own)
	if err != nil {
		b.Fatal(err)
	}
	fetch := func(from *http.Client, url string) (time.Duration, []byte) {
		req, err := http.NewRequest(http.MethodGet, url, nil)
		if err != nil {
			b.Fatal(err)
		}
		req.Header.Set("Accept", f.contentType)
		req.Header.Set("Accept-Encoding", "identity")
		begin := time.Now()
		resp, err := from.Do(req)
		if err != nil {
			b.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusOK {
			b.Fatalf("%s: %s, %v: %.300s", url, resp.Status, err, body)
		}
		return time.Since(begin), body
	}
	url := own.Host + root + "/api/v1/namespaces/" + benchSpace + "/pods"
	_, body := fetch(httpClient, url)
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if _, err := io.Copy(w, bytes.NewReader(body)); err != nil {
			b.Error(err)
		}
	}))
	defer server.Close()
	plain := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}} //nolint:gosec // our own server, for its speed
	defer plain.CloseIdleConnections()
	var ours, theirs []time.Duration
	for range 11 {
		t, _ := fetch(httpClient, url)
		u, _ := fetch(plain, server.URL)
		ours, theirs = append(ours, t), append(theirs, u)
	}
	return median(ours), len(body), median(theirs)
}

// rawSyncs is how many appends of so many bytes, each with fdatasync, one file takes in a second.
func rawSyncs(b *testing.B, size int, window time.Duration) float64 {
	b.Helper()
	f, err := os.Create(filepath.Join(b.TempDir(), "raw"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	payload := bytes.Repeat([]byte("x"), size)
	n, begin := 0, time.Now()
	for time.Since(begin) < window {
		if _, err := f.Write(payload); err != nil {
			b.Fatal(err)
		}
		if err := syscall.Fdatasync(int(f.Fd())); err != nil {
			b.Fatal(err)
		}
		n++
	}
	return float64(n) / time.Since(begin).Seconds()
}
