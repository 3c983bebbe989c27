//go:build system

package systemtest

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestHistoryWhyAndThePast(t *testing.T) {
	ns := demo(t)
	contains := func(out string, want ...string) {
		t.Helper()
		for _, w := range want {
			if !strings.Contains(out, w) {
				t.Errorf("no %q in\n%s", w, out)
			}
		}
	}
	three := strings.TrimSpace(must(t, "kubectl", "get", "deployment", "web", "-n", ns, "-o", "jsonpath={.metadata.resourceVersion}"))
	stamp := time.Now().UTC().Format(time.RFC3339Nano)
	must(t, "orlog", "scale", "deployment/web", "-n", ns, "--replicas=5", "--reason", "more visitors")
	readyPods(t, ns, webSelector, 5)
	must(t, "orlog", "set", "image", "deployment/web", "-n", ns, "web=orlog.local/demo/web:2.0")
	must(t, "orlog", "rollout", "status", "deployment/web", "-n", ns, "--timeout=90s")

	contains(must(t, "orlog", "history", "deployment/web", "-n", ns),
		"created", "scaled", "spec.replicas: 3 -> 5", "more visitors", "image-changed", "orlog.local/demo/web:1.0 -> orlog.local/demo/web:2.0", "admin")

	p := pods(t, ns, webSelector)[0]
	why := must(t, "orlog", "why", "pod/"+p.Name, "-n", ns)
	contains(why, "pods/"+ns+"/"+p.Name, "replicasets/"+ns, "deployments/"+ns+"/web", "admin", "bound")

	for _, at := range []string{three, stamp} {
		if n := strings.Count(must(t, "orlog", "get", "pods", "-n", ns, "--at", at, "-o", "name"), "pod/"); n != 3 {
			t.Errorf("get pods --at %s lists %d pods, want 3", at, n)
		}
		server := strings.TrimSpace(must(t, "kubectl", "config", "view", "--minify", "-o", "jsonpath={.clusters[0].cluster.server}"))
		if n := strings.Count(must(t, "kubectl", "--server", server+"/at/"+at, "get", "pods", "-n", ns, "-o", "name"), "pod/"); n != 3 {
			t.Errorf("kubectl --server .../at/%s lists %d pods, want 3", at, n)
		}
		mustFail(t, "orlog", "delete", "deployment/web", "-n", ns, "--at", at)
	}
	if n := strings.Count(must(t, "orlog", "get", "pods", "-n", ns, "-o", "name"), "pod/"); n != 5 {
		t.Errorf("now there are %d pods, want 5", n)
	}

	// What is deleted keeps its history.
	must(t, "kubectl", "delete", "deployment/web", "-n", ns)
	contains(must(t, "orlog", "history", "deployment/web", "-n", ns), "created", "deleted")
}

func TestTail(t *testing.T) {
	ns := namespace(t)
	readable, asJSON := start(t, "orlog", "tail"), start(t, "orlog", "tail", "-o", "json")
	time.Sleep(time.Second)
	must(t, "kubectl", "create", "configmap", "tailed", "-n", ns, "--from-literal=a=1")
	time.Sleep(time.Second)
	if out := readable.stop(); !strings.Contains(out, "configmap.created") || !strings.Contains(out, "core/configmaps/"+ns+"/tailed") {
		t.Errorf("orlog tail shows no creation:\n%s", out)
	}
	found := false
	for _, line := range strings.Split(strings.TrimSpace(asJSON.stop()), "\n") {
		var e struct {
			SpecVersion, ID, Type, Source, Subject string
			Data                                   struct {
				Object struct{ Data map[string]string }
			}
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("tail -o json printed %q: %v", line, err)
		}
		if e.SpecVersion != "1.0" || e.ID == "" || e.Source == "" {
			t.Errorf("no CloudEvent: %s", line)
		}
		found = found || e.Type == "io.orlog.configmap.created" && e.Subject == "core/configmaps/"+ns+"/tailed" && e.Data.Object.Data["a"] == "1"
	}
	if !found {
		t.Error("tail -o json shows no creation")
	}
}

func TestExampleConsumerSeesTheSame(t *testing.T) {
	ns := namespace(t)
	must(t, "kubectl", "create", "configmap", "consumed", "-n", ns, "--from-literal=a=1")
	bin := filepath.Join(t.TempDir(), "consumer")
	if out, err := exec.Command("go", "build", "-o", bin, repositoryFile(t, "deploy/examples/tail-go")).CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	url, err := os.ReadFile(filepath.Join(the.dir, "orlogd", "nats-url"))
	if err != nil {
		t.Fatal(err)
	}
	if out, err := the.run(bin, strings.TrimSpace(string(url))); err == nil || !strings.Contains(err.Error(), "unknown authority") {
		t.Errorf("without the authority the consumer got: %v\n%s", err, out)
	}
	trusted := "SSL_CERT_FILE=" + filepath.Join(the.dir, "integrator.nats")
	if out, err := the.run("env", trusted, bin, strings.TrimSpace(string(url))); err == nil || !strings.Contains(err.Error(), "Authorization Violation") {
		t.Errorf("without credentials the consumer got: %v\n%s", err, out)
	}
	consumer := start(t, bin, strings.TrimSpace(string(url)), filepath.Join(the.dir, "integrator.nats"))
	time.Sleep(3 * time.Second)
	out := consumer.stop()
	if want := "core/configmaps/" + ns + "/consumed"; !strings.Contains(out, want) || !strings.Contains(out, "io.orlog.configmap.created") {
		t.Error(fmt.Errorf("the consumer saw no %s:\n%s", want, out))
	}
}
