package gateway

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
)

// TestClientsOverARestart: what clients hold on to stays good over a restart of the gateway and many writes: addresses and
// ports of Services, the resourceVersion of a watch, the continue token of a LIST.
func TestClientsOverARestart(t *testing.T) {
	c := newDurableCluster(t)
	client := clientOf(t, c.admin(t))
	ctx := t.Context()
	maps := client.CoreV1().ConfigMaps("default")
	beginning := c.last(t)
	for i := range 7 {
		writeMap(t, client, fmt.Sprint("paged-", i), "first")
	}
	page, err := maps.List(ctx, metav1.ListOptions{Limit: 3})
	if err != nil || page.Continue == "" {
		t.Fatalf("first page: %v, %q", err, page.Continue)
	}
	nodePort := makeService(t, client, &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "ported"},
		Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeNodePort, Ports: []corev1.ServicePort{{Port: 80}}}})
	w, err := maps.Watch(ctx, metav1.ListOptions{ResourceVersion: page.ResourceVersion})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		writeMap(t, client, "watched", fmt.Sprint("before-", i))
	}
	seen := ""
	for i := range 3 {
		e := <-w.ResultChan()
		is, ok := e.Object.(*corev1.ConfigMap)
		if !ok || is.Data["v"] != fmt.Sprint("before-", i) {
			t.Fatalf("watch: %+v", e)
		}
		seen = is.ResourceVersion
	}
	w.Stop()

	// After the resourceVersion that the client saw last, and before it returns, much happens.
	writeMap(t, client, "watched", "missed")
	c.stop()
	c.start(t)
	client = clientOf(t, c.admin(t))
	maps = client.CoreV1().ConfigMaps("default")
	for i := range 150 {
		writeMap(t, client, fmt.Sprint("paged-", i%7), fmt.Sprint("later-", i))
	}
	if err := maps.Delete(ctx, "paged-5", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	writeMap(t, client, "watched", "after")

	t.Run("a watch goes on where it was", func(t *testing.T) { resumed(t, c, client, seen) })
	t.Run("a watch from any past", func(t *testing.T) { fromAnyPast(t, client, beginning.String()) })
	t.Run("a list goes on as of its first page", func(t *testing.T) {
		rest, err := maps.List(ctx, metav1.ListOptions{Limit: 100, Continue: page.Continue})
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range append(page.Items, rest.Items...) {
			if strings.HasPrefix(m.Name, "paged-") && m.Data["v"] != "first" {
				t.Errorf("%s is %q, later than the first page", m.Name, m.Data["v"])
			}
		}
		if n := len(page.Items) + len(rest.Items); rest.ResourceVersion != page.ResourceVersion || rest.Continue != "" || n < 7 {
			t.Errorf("%d objects, at %s and %s, more %q", n, page.ResourceVersion, rest.ResourceVersion, rest.Continue)
		}
	})
	t.Run("addresses and ports", func(t *testing.T) { keptAddresses(t, client, nodePort) })
}

// writeMap creates or updates a ConfigMap.
func writeMap(t *testing.T, client kubernetes.Interface, name, value string) {
	t.Helper()
	maps := client.CoreV1().ConfigMaps("default")
	want := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}, Data: map[string]string{"v": value}}
	_, err := maps.Update(t.Context(), want, metav1.UpdateOptions{})
	if apierrors.IsNotFound(err) {
		_, err = maps.Create(t.Context(), want, metav1.CreateOptions{})
	}
	if err != nil {
		t.Fatal(err)
	}
}

func makeService(t *testing.T, client kubernetes.Interface, s *corev1.Service) *corev1.Service {
	t.Helper()
	made, err := client.CoreV1().Services("default").Create(t.Context(), s, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// next is the next event of a watch that is no bookmark.
func next(t *testing.T, w watch.Interface) watch.Event {
	t.Helper()
	limit := time.After(20 * time.Second)
	for {
		select {
		case e, open := <-w.ResultChan():
			if !open {
				t.Fatal("the watch ended")
			}
			if e.Type == watch.Error {
				t.Fatalf("the watch failed: %v", apierrors.FromObject(e.Object))
			}
			if e.Type != watch.Bookmark {
				return e
			}
		case <-limit:
			t.Fatal("nothing came")
		}
	}
}

// resumed: exactly what came after the resourceVersion, in the order of the log, and then what happens now.
func resumed(t *testing.T, c *cluster, client kubernetes.Interface, seen string) {
	from, err := strconv.ParseUint(seen, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	w, err := client.CoreV1().ConfigMaps("default").Watch(t.Context(), metav1.ListOptions{ResourceVersion: seen, AllowWatchBookmarks: true})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	var values []string
	for last := from; len(values) < 153; {
		e := next(t, w)
		m := e.Object.(*corev1.ConfigMap)
		at, err := strconv.ParseUint(m.ResourceVersion, 10, 64)
		if err != nil || at <= last {
			t.Fatalf("%s came after %d", m.ResourceVersion, last)
		}
		last = at
		if e.Type == watch.Deleted {
			m.Data["v"] = "deleted"
		}
		values = append(values, m.Data["v"])
	}
	want := []string{"missed"}
	for i := range 150 {
		want = append(want, fmt.Sprint("later-", i))
	}
	want = append(want, "deleted", "after")
	if got := strings.Join(values, " "); got != strings.Join(want, " ") {
		t.Errorf("came:\n%s", got)
	}
	writeMap(t, client, "watched", "now")
	if m := next(t, w).Object.(*corev1.ConfigMap); m.Data["v"] != "now" {
		t.Errorf("then came %v", m.Data)
	}
}

// fromAnyPast: a watch from before everything that the watch cache ever held.
func fromAnyPast(t *testing.T, client kubernetes.Interface, beginning string) {
	w, err := client.CoreV1().ConfigMaps("default").Watch(t.Context(), metav1.ListOptions{ResourceVersion: beginning, FieldSelector: "metadata.name=paged-5"})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	for i, want := range append([]watch.EventType{watch.Added}, slicesOf(watch.Modified, 21)...) {
		if e := next(t, w); e.Type != want {
			t.Fatalf("event %d is %s, want %s", i, e.Type, want)
		}
	}
	if e := next(t, w); e.Type != watch.Deleted {
		t.Errorf("the last event is %s", e.Type)
	}
	// From the log's very first sequence, and of something that is written much: Services.
	services, err := client.CoreV1().Services("").Watch(t.Context(), metav1.ListOptions{ResourceVersion: "1"})
	if err != nil {
		t.Fatal(err)
	}
	defer services.Stop()
	// The API's own Service is made while the gateway serves already, so it may have come after the client's.
	first := map[string]watch.EventType{}
	for range 2 {
		e := next(t, services)
		first[e.Object.(*corev1.Service).Name] = e.Type
	}
	if first["kubernetes"] != watch.Added || first["ported"] != watch.Added {
		t.Errorf("the first Services ever: %v", first)
	}
}

func slicesOf(e watch.EventType, n int) []watch.EventType {
	out := make([]watch.EventType, n)
	for i := range out {
		out[i] = e
	}
	return out
}

// keptAddresses: the Service is as it was, nobody else gets what it holds, and once it is gone anybody does.
func keptAddresses(t *testing.T, client kubernetes.Interface, was *corev1.Service) {
	ctx, services := t.Context(), client.CoreV1().Services("default")
	is, err := services.Get(ctx, was.Name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	port, address := was.Spec.Ports[0].NodePort, was.Spec.ClusterIP
	if port == 0 || is.Spec.Ports[0].NodePort != port || is.Spec.ClusterIP != address {
		t.Errorf("was %+v, is %+v", was.Spec, is.Spec)
	}
	thief := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "thief"}, Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeNodePort,
		Ports: []corev1.ServicePort{{Port: 80, NodePort: port}}}}
	if _, err := services.Create(ctx, thief, metav1.CreateOptions{}); !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), "already allocated") {
		t.Errorf("a port that is taken: %v", err)
	}
	thief.Spec = corev1.ServiceSpec{ClusterIP: address, Ports: []corev1.ServicePort{{Port: 80}}}
	if _, err := services.Create(ctx, thief, metav1.CreateOptions{}); !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), "already allocated") {
		t.Errorf("an address that is taken: %v", err)
	}
	if err := services.Delete(ctx, was.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	thief.Spec = corev1.ServiceSpec{Type: corev1.ServiceTypeNodePort, ClusterIP: address, Ports: []corev1.ServicePort{{Port: 80, NodePort: port}}}
	if _, err := services.Create(ctx, thief, metav1.CreateOptions{}); err != nil {
		t.Errorf("what is free again: %v", err)
	}
}
