//go:build system

package systemtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/events/jetstream"
)

const outsideNATS = "tls://198.51.100.1:4222"

// TestAuthKubeconfig: a user gets in with a key made on the client, may do what RBAC says, and is cut off when it
// is revoked.
func TestAuthKubeconfig(t *testing.T) {
	ns := namespace(t)
	file := filepath.Join(t.TempDir(), "alice.kubeconfig")
	must(t, "orlog", "auth", "kubeconfig", "alice", "--group", "developers", "--ttl", "2d", "-o", file)
	if info, err := os.Stat(file); err != nil || info.Mode() != 0o600 {
		t.Errorf("the kubeconfig: %v, %v", info.Mode(), err)
	}
	asAlice := func(args ...string) []string { return append([]string{"--kubeconfig", file}, args...) }
	if who := must(t, "orlog", asAlice("auth", "whoami")...); !strings.Contains(who, "alice") || !strings.Contains(who, "developers") {
		t.Errorf("whoami says %s", who)
	}
	mustFail(t, "kubectl", asAlice("get", "pods", "-n", ns)...)
	must(t, "kubectl", "create", "rolebinding", "alice", "--clusterrole=view", "--group=developers", "-n", ns)
	eventually(t, 10*time.Second, "alice's permission", func() error {
		_, err := the.run("orlog", asAlice("auth", "can-i", "list", "pods", "-n", ns)...)
		return err
	})
	mustFail(t, "orlog", asAlice("auth", "integrator", "x")...)
	if out := must(t, "orlog", "auth", "list"); !strings.Contains(out, "alice") {
		t.Errorf("auth list says %s", out)
	}

	watch := start(t, "kubectl", asAlice("get", "configmaps", "-n", ns, "-w", "-v=0")...)
	eventually(t, 10*time.Second, "the watch", func() error {
		if !strings.Contains(watch.out.String(), "kube-root-ca.crt") {
			return errors.New("nothing yet")
		}
		return nil
	})
	must(t, "orlog", "auth", "revoke", "user/alice", "--reason", "laptop stolen")
	mustFail(t, "kubectl", asAlice("get", "pods", "-n", ns)...)
	must(t, "kubectl", "create", "configmap", "unseen", "-n", ns)
	ended := make(chan error, 1)
	go func() { ended <- watch.cmd.Wait() }()
	select {
	case <-ended:
	case <-time.After(20 * time.Second):
		t.Error("a watch goes on after its certificate was revoked")
	}
	watch.cancel()
	if out := watch.out.String(); strings.Contains(out, "unseen") {
		t.Errorf("the watch saw what came after: %s", out)
	}
	name := requestOf(t, "alice")
	if h := must(t, "orlog", "history", "csr/"+name); !strings.Contains(h, "revoked") || !strings.Contains(h, "laptop stolen") || !strings.Contains(h, "admin") || !strings.Contains(h, "approved") {
		t.Errorf("the history of the request says %s", h)
	}
	// Neither deleting the request nor taking the condition back lets the key in again.
	must(t, "kubectl", "delete", "csr", name)
	mustFail(t, "kubectl", asAlice("get", "pods", "-n", ns)...)
}

// requestOf is the name of the request that a credential came from.
func requestOf(t *testing.T, holder string) string {
	t.Helper()
	for _, line := range strings.Split(must(t, "orlog", "auth", "list", "--all"), "\n") {
		if f := strings.Fields(line); len(f) > 3 && f[1] == holder {
			return f[len(f)-1]
		}
	}
	t.Fatalf("auth list does not know %s", holder)
	return ""
}

// TestCertificateApprovedByHand goes the way that Kubernetes documents.
func TestCertificateApprovedByHand(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Fatal("openssl is needed, as the documentation of Kubernetes uses it: ", err)
	}
	must(t, "openssl", "req", "-new", "-newkey", "rsa:2048", "-nodes", "-keyout", at("bob.key"), "-subj", "/CN=bob/O=ops", "-out", at("bob.csr"))
	encoded := strings.TrimSpace(must(t, "base64", "-w0", at("bob.csr")))
	must(t, "kubectl", "apply", "-f", file(t, `apiVersion: certificates.k8s.io/v1
kind: CertificateSigningRequest
metadata: {name: bob}
spec: {request: `+encoded+`, signerName: kubernetes.io/kube-apiserver-client, expirationSeconds: 3600, usages: [client auth]}
`))
	if cert := must(t, "kubectl", "get", "csr", "bob", "-o", "jsonpath={.status.certificate}"); cert != "" {
		t.Fatal("a certificate was issued that nobody approved")
	}
	must(t, "kubectl", "certificate", "approve", "bob")
	eventually(t, 20*time.Second, "bob's certificate", func() error {
		out, err := the.run("sh", "-c", `kubectl get csr bob -o 'jsonpath={.status.certificate}' | base64 -d > `+at("bob.crt")+` && test -s `+at("bob.crt"))
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
	must(t, "sh", "-c", "kubectl config view --raw --minify -o 'jsonpath={.clusters[0].cluster.certificate-authority-data}' | base64 -d > "+at("ca.crt"))
	if who := must(t, "curl", "-sS", "--fail", "--cacert", at("ca.crt"), "--cert", at("bob.crt"), "--key", at("bob.key"), "https://198.51.100.1:6443/apis"); !strings.Contains(who, "APIGroupList") {
		t.Errorf("bob sees %s", who)
	}
}

// reader follows the log by the example for integrators.
func reader(t *testing.T, credentials string) *background {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "tail-go")
	build := exec.Command("go", "build", "-o", bin, "./deploy/examples/tail-go")
	build.Dir = repositoryFile(t, ".")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the example: %v: %s", err, out)
	}
	return start(t, bin, outsideNATS, credentials)
}

// TestAuthIntegrator: credentials are good at once and after a restart, and not any more when they are revoked, at
// once and after a restart.
func TestAuthIntegrator(t *testing.T) {
	ns := namespace(t)
	dir := t.TempDir()
	kept, taken := filepath.Join(dir, "kept.nats"), filepath.Join(dir, "taken.nats")
	must(t, "orlog", "auth", "integrator", "st-kept", "-o", kept)
	must(t, "orlog", "auth", "integrator", "st-taken", "-o", taken)
	mustFail(t, "orlog", "auth", "integrator", "st-other", "-o", taken) // does not write over a key
	sees := func(r *background, what string) {
		t.Helper()
		eventually(t, 20*time.Second, what, func() error {
			if !strings.Contains(r.out.String(), what) {
				return errors.New("not seen yet")
			}
			return nil
		})
	}
	a, b := reader(t, kept), reader(t, taken)
	defer a.stop()
	defer b.stop()
	must(t, "kubectl", "create", "configmap", "first", "-n", ns)
	sees(a, "configmaps/"+ns+"/first")
	sees(b, "configmaps/"+ns+"/first")

	must(t, "orlog", "auth", "revoke", "integrator/st-taken")
	must(t, "kubectl", "create", "configmap", "second", "-n", ns)
	sees(a, "configmaps/"+ns+"/second")
	if strings.Contains(b.out.String(), ns+"/second") {
		t.Error("an integrator whose access was revoked reads on")
	}

	if err := the.kill(&the.orlogd); err != nil {
		t.Fatal(err)
	}
	if err := the.startOrlogd(); err != nil {
		t.Fatal(err)
	}
	must(t, "kubectl", "create", "configmap", "third", "-n", ns)
	sees(a, "configmaps/"+ns+"/third")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if out, err := the.inside(ctx, filepath.Join(filepath.Dir(b.cmd.Path), "tail-go"), outsideNATS, taken).CombinedOutput(); err == nil || ctx.Err() != nil {
		t.Errorf("after a restart, with revoked credentials: %v: %s", err, out)
	}
	must(t, "orlog", "auth", "revoke", "st-kept")
}

// TestAuthNode: a second machine joins with what orlog auth node makes, without a restart, and is thrown out.
func TestAuthNode(t *testing.T) {
	name := the.id + "n"
	dir := filepath.Join(t.TempDir(), name)
	must(t, "orlog", "auth", "node", name, "-o", dir)

	ctx := t.Context()
	own, err := jetstream.Connect(ctx, jetstream.Options{URL: "tls://" + forward(t, "198.51.100.1:4222"), Credentials: filepath.Join(dir, "node.nats"), MustExist: true})
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	log, err := own.Log(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if last, err := log.Last(ctx); err != nil || last == 0 {
		t.Errorf("the log ends at %d, %v", last, err)
	}
	other := events.Event{ID: "x", Type: "io.orlog.node.status-reported", Source: "test", Actor: "test", UID: "x", Time: time.Now(), Object: []byte("{}"),
		Subject: events.Subject{Class: events.Observed, Key: events.Key{Resource: "nodes", Name: the.id}, Node: the.id}}
	if _, err := log.Append(ctx, events.Entry{Event: other}); !errors.Is(err, jetstream.ErrForbidden) {
		t.Errorf("reporting for another node: %v", err)
	}

	second := secondMachine(t)
	defer func() {
		if err := second.remove(); err != nil {
			t.Error(err)
		}
	}()
	if err := second.join(dir); err != nil {
		t.Fatal(err)
	}
	eventually(t, 60*time.Second, "the second node", func() error {
		_, err := the.run("kubectl", "wait", "--for=condition=Ready", "node", name, "--timeout=1s")
		return err
	})
	must(t, "orlog", "auth", "revoke", "node/"+name)
	mustFail(t, "kubectl", "--kubeconfig", filepath.Join(dir, "node.kubeconfig"), "get", "nodes")
	if _, err := jetstream.Connect(ctx, jetstream.Options{URL: "tls://" + forward(t, "198.51.100.1:4222"), Credentials: filepath.Join(dir, "node.nats"), MustExist: true}); err == nil {
		t.Error("the node connects to the log after its access was revoked")
	}
	must(t, "kubectl", "delete", "node", name)
}

// machine is a second machine of the cluster: a network namespace with a link to the first.
type machine struct {
	id, dir string
	agent   *process
}

func secondMachine(t *testing.T) *machine {
	t.Helper()
	m := &machine{id: the.id + "n", dir: t.TempDir()}
	for _, args := range [][]string{
		{"netns", "add", m.id},
		{"-n", m.id, "link", "set", "lo", "up"},
		{"-n", the.id, "link", "add", m.id, "type", "veth", "peer", "name", "up0", "netns", m.id},
		{"-n", the.id, "addr", "add", "203.0.113.1/24", "dev", m.id},
		{"-n", the.id, "link", "set", m.id, "up"},
		{"-n", m.id, "addr", "add", "203.0.113.2/24", "dev", "up0"},
		{"-n", m.id, "link", "set", "up0", "up"},
		{"-n", m.id, "route", "add", "default", "via", "203.0.113.1"},
	} {
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			t.Fatalf("ip %v: %v: %s", args, err, out)
		}
	}
	return m
}

// podCIDR is the second machine's.
const podCIDR = "10.244.9.0/24"

func (m *machine) flags(access string) []string {
	return []string{"--config", filepath.Join(access, "orlog-agent.yaml"), "--kubeconfig", filepath.Join(access, "node.kubeconfig"),
		"--data-dir", filepath.Join(m.dir, "node"), "--bin-dir", the.bin, "--bridge", m.id + "b", "--nft-table", m.id, "--cgroup-root", "/" + m.id, "--pod-cidr", podCIDR}
}

// join starts the agent with what orlog auth node made, in a folder as /etc/orlog is one.
func (m *machine) join(access string) error {
	out, err := os.OpenFile(filepath.Join(the.dir, "second-agent.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	cmd := exec.Command("nsenter", append([]string{"--net=/run/netns/" + m.id, filepath.Join(the.bin, "orlog-agent")}, m.flags(access)...)...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	m.agent = &process{name: "the second agent", cmd: cmd, done: make(chan struct{})}
	go func() {
		defer close(m.agent.done)
		_ = cmd.Wait() // how it ended is in its log
	}()
	return nil
}

func (m *machine) remove() error {
	var errs []error
	if m.agent != nil {
		errs = append(errs, m.agent.stop(syscall.SIGTERM))
	}
	reset := exec.Command("nsenter", "--net=/run/netns/"+m.id, filepath.Join(the.bin, "orlog-agent"), "reset", "--data-dir", filepath.Join(m.dir, "node"),
		"--node-name", m.id, "--bin-dir", the.bin, "--bridge", m.id+"b", "--nft-table", m.id, "--cgroup-root", "/"+m.id, "--pod-cidr", podCIDR)
	if out, err := reset.CombinedOutput(); err != nil {
		errs = append(errs, fmt.Errorf("reset of the second node: %w: %s", err, out))
	}
	if out, err := exec.Command("ip", "netns", "del", m.id).CombinedOutput(); err != nil {
		errs = append(errs, fmt.Errorf("ip netns del: %w: %s", err, out))
	}
	return errors.Join(errs...)
}
