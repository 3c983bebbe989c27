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
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/orlog-io/orlog/events/jetstream"
)

// TestLeader: of two orlogds on one external log one decides; where it dies the other takes over, and does what was
// left undone meanwhile. The first, when it is back, waits.
func TestLeader(t *testing.T) {
	server, err := jetstream.StartServer(jetstream.ServerOptions{Dir: t.TempDir(), Port: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Shutdown)
	first, second := newDaemon(t), newDaemon(t)
	_, port, _ := strings.Cut(first.api, ":")
	second.api, second.advertise = "127.0.0.2:"+port, "198.51.100.2" // gateways share the port
	first.start(t, "--nats-url", server.URL())
	first.ready(t)
	if err := os.CopyFS(filepath.Join(second.dataDir(), "pki"), os.DirFS(filepath.Join(first.dataDir(), "pki"))); err != nil {
		t.Fatal(err)
	}
	a, err := first.client()
	if err != nil {
		t.Fatal(err)
	}
	undone(t, a, "one")
	second.start(t, "--nats-url", server.URL())
	second.ready(t)
	b, err := second.client()
	if err != nil {
		t.Fatal(err)
	}
	leases := []string{"kube-scheduler", "kube-controller-manager"}
	holders := func() (out []string) {
		for _, name := range leases {
			l, err := b.CoordinationV1().Leases("kube-system").Get(t.Context(), name, metav1.GetOptions{})
			if err != nil || l.Spec.HolderIdentity == nil {
				t.Fatalf("lease %s: %+v, %v", name, l, err)
			}
			out = append(out, *l.Spec.HolderIdentity)
		}
		return out
	}
	was := holders()
	first.kill()
	undone(t, b, "two")
	within(t, time.Minute, "the second's lead", func() error {
		for i, is := range holders() {
			if is == was[i] {
				return fmt.Errorf("lease %s is still held by %s, who is dead", leases[i], is)
			}
		}
		return nil
	})
	if was[0] != was[1] {
		t.Errorf("the first led as %s and as %s", was[0], was[1])
	}
	first.start(t, "--nats-url", server.URL())
	first.ready(t)
	now := holders()
	undone(t, a, "three")
	if again := holders(); again[0] != now[0] || again[1] != now[1] {
		t.Errorf("the first came back and took %v over from %v", again, now)
	}

	// Who is killed and comes back before its lease has ended leads on at once.
	second.kill()
	second.start(t, "--nats-url", server.URL())
	second.ready(t)
	undone(t, b, "four")
	if again := holders(); again[0] != now[0] || again[1] != now[1] {
		t.Errorf("the second came back at once, and now %v lead instead of %v", again, now)
	}
	second.stop(t)
	first.stop(t)
}

// undone makes a namespace and waits until some orlogd's reconcilers have filled it.
func undone(t *testing.T, c *kubernetes.Clientset, name string) {
	t.Helper()
	if _, err := c.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	within(t, time.Minute, "the reconcilers of "+name, func() error {
		if _, err := c.CoreV1().ServiceAccounts(name).Get(t.Context(), "default", metav1.GetOptions{}); err != nil {
			return fmt.Errorf("waiting for the service account: %w", err)
		}
		return nil
	})
}
