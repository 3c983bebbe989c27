//go:build system

package durability

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestSecondGateway: one more orlogd, gateway only, on the log inside the first. What one acknowledges the other
// shows at once; the first's reconcilers act on what the second takes in; and the second alone is of no use
// without the log, but comes back with it.
func TestSecondGateway(t *testing.T) {
	first, second := newDaemon(t), newDaemon(t)
	_, port, _ := strings.Cut(first.api, ":")
	second.api, second.advertise = "127.0.0.2:"+port, "198.51.100.2" // gateways share the port
	first.start(t)
	first.ready(t)
	if err := os.CopyFS(filepath.Join(second.dataDir(), "pki"), os.DirFS(filepath.Join(first.dataDir(), "pki"))); err != nil {
		t.Fatal(err)
	}
	more := []string{"--gateway-only", "--nats-url", "tls://" + first.nats, "--nats-credentials", filepath.Join(first.dataDir(), "nats", "services.nats"),
		"--nats-ca", filepath.Join(first.dataDir(), "pki", "ca.crt")}
	second.start(t, more...)
	second.ready(t)
	a, err := first.client()
	if err != nil {
		t.Fatal(err)
	}
	b, err := second.client()
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	for i := range 20 {
		writer, reader := a, b
		if i%2 == 1 {
			writer, reader = b, a
		}
		name := fmt.Sprint("m", i)
		if _, err := writer.CoreV1().ConfigMaps("default").Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		if _, err := reader.CoreV1().ConfigMaps("default").Get(ctx, name, metav1.GetOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := b.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "made-by-second"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	within(t, 30*time.Second, "the first's reconcilers", func() error {
		_, err := b.CoreV1().ServiceAccounts("made-by-second").Get(ctx, "default", metav1.GetOptions{})
		return err
	})
	first.kill()
	if _, err := b.CoreV1().ConfigMaps("default").Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "lost"}}, metav1.CreateOptions{}); err == nil {
		t.Error("a write was acknowledged while there was no log")
	}
	first.start(t)
	first.ready(t)
	within(t, 30*time.Second, "the second's return", func() error {
		_, err := b.CoreV1().ConfigMaps("default").Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "found"}}, metav1.CreateOptions{})
		if apierrors.IsAlreadyExists(err) {
			return nil
		}
		return err
	})
	if _, err := a.CoreV1().ConfigMaps("default").Get(ctx, "found", metav1.GetOptions{}); err != nil {
		t.Error(err)
	}
	second.stop(t)
	first.stop(t)
}

// within polls from outside, where there is nothing to wait on.
func within(t *testing.T, limit time.Duration, what string, check func() error) {
	t.Helper()
	for end := time.Now().Add(limit); ; time.Sleep(100 * time.Millisecond) {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s: %v", what, err)
		}
	}
}
