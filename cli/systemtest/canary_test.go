//go:build system

package systemtest

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// canaries are values that must not be seen, by what they are.
type canaries map[string]string

// new makes one. Its length is a multiple of three, so that its base64 is found inside other base64, too.
func (c canaries) new(t *testing.T, name string) string {
	t.Helper()
	b := make([]byte, 15)
	if _, err := rand.Read(b); err != nil {
		t.Fatal(err)
	}
	c[name] = hex.EncodeToString(b)
	return c[name]
}

// TestSecretsStayOutOfLogs takes Secrets through everything that can happen to them, well and badly, and then looks
// for their values in all that orlogd, the agent and the shims have logged at the level debug, and in what
// Orlog's own commands print.
func TestSecretsStayOutOfLogs(t *testing.T) {
	ns, c := namespace(t), canaries{}
	useSecrets(t, ns, c)
	failWithSecrets(t, ns, c)
	for _, args := range [][]string{
		{"history", "secret/canary", "-n", ns},
		{"history", "secret/canary", "-n", ns, "--all", "--status", "--wide"},
		{"history", "secret/canary", "-n", ns, "-o", "json"},
		{"history", "pod/well", "-n", ns, "--all", "--status", "--wide"},
		{"why", "secret/canary", "-n", ns},
		{"why", "secret/canary", "-n", ns, "-o", "json"},
		{"why", "pod/no-key", "-n", ns},
		{"tail", "-n", ns, "--from", "1", "--follow=false"},
		{"tail", "-n", ns, "--from", "1", "--follow=false", "-o", "wide"},
		{"tail", "-n", ns, "--from", "1", "--follow=false", "-o", "json"},
		{"get", "events", "-n", ns, "-o", "yaml"},
		{"get", "pods", "-n", ns, "-o", "yaml"},
		{"describe", "secret,pods", "-n", ns},
	} {
		c.seek(t, "orlog "+strings.Join(args, " "), []byte(must(t, "orlog", args...)))
	}
	diff, err := the.run("orlog", "diff", "secret/canary", "-n", ns) // its status says that there are differences
	if !strings.Contains(diff, "canary") {
		t.Errorf("diff says %q, %v", diff, err)
	}
	c.seek(t, "orlog diff", []byte(diff))
	c.seekInLogs(t)
}

// useSecrets has a Secret made, mounted, taken into the environment and updated, and a token made.
func useSecrets(t *testing.T, ns string, c canaries) {
	t.Helper()
	data, stringData, updated := c.new(t, "data"), c.new(t, "stringData"), c.new(t, "update")
	apply(t, ns, `apiVersion: v1
kind: Secret
metadata: {name: canary}
data: {one: `+base64.StdEncoding.EncodeToString([]byte(data))+`}
stringData: {two: "`+stringData+`", "1-is-no.name": x}
`)
	must(t, "kubectl", "create", "secret", "docker-registry", "pull", "-n", ns, "--docker-server=127.0.0.1:1", "--docker-username=me",
		"--docker-password="+c.new(t, "password"))
	apply(t, ns, canaryPods)
	readyPods(t, ns, "canary=well", 1)
	if got := must(t, "kubectl", "exec", "-n", ns, "well", "--", "sh", "-c", "cat /secret/two; echo $CANARY"); !strings.Contains(got, stringData) || !strings.Contains(got, data) {
		t.Fatal("the secret did not reach the container")
	}
	apply(t, ns, `apiVersion: v1
kind: Secret
metadata: {name: canary}
stringData: {one: "`+updated+`", two: "`+updated+`"}
`)
	eventually(t, 2*time.Minute, "the update in the volume", func() error {
		now, err := the.run("kubectl", "exec", "-n", ns, "well", "--", "cat", "/secret/two")
		if err == nil && !strings.Contains(now, updated) {
			err = errors.New("not there yet")
		}
		return err
	})
	token := strings.TrimSpace(must(t, "kubectl", "create", "token", "default", "-n", ns))
	c["token"] = token[strings.LastIndex(token, ".")+1:]
}

// failWithSecrets waits for the pods that fail with a Secret, and has objects refused, which errors quote.
func failWithSecrets(t *testing.T, ns string, c canaries) {
	t.Helper()
	for pod, reasons := range map[string]string{"no-command": "", "no-key": "CreateContainerConfigError", "no-image": "ErrImagePull ImagePullBackOff", "killed": "Error CrashLoopBackOff"} {
		eventually(t, time.Minute, "the failure of "+pod, func() error { return failed(ns, pod, reasons) })
	}
	mustFail(t, "kubectl", "create", "-n", ns, "-f", file(t, `{"apiVersion":"v1","kind":"Secret","metadata":{"name":"BAD NAME"},"stringData":{"one":"`+c.new(t, "refused")+`"}}`))
	mustFail(t, "kubectl", "create", "-n", ns, "-f", file(t, `{"apiVersion":"v1","kind":"Secret","metadata":{"name":"bad"},"data":{"one":"`+c.new(t, "malformed")+`!"}}`))
	mustFail(t, "kubectl", "patch", "secret", "canary", "-n", ns, "--type=json", "-p", `[{"op":"test","path":"/data/one","value":"`+c.new(t, "patch")+`"}]`)
}

// seek fails the test where a canary, or its base64, is in a text.
func (c canaries) seek(t *testing.T, where string, text []byte) {
	t.Helper()
	encode := base64.StdEncoding.EncodeToString
	for name, value := range c {
		for form, needle := range map[string]string{"": value, "base64 of ": encode([]byte(value)), "twice base64 of ": encode([]byte(encode([]byte(value))))} {
			if i := bytes.Index(text, []byte(strings.TrimRight(needle, "="))); i >= 0 {
				t.Errorf("%s holds the %s%s: ...%q...", where, form, name, text[max(0, i-200):i])
			}
		}
	}
}

// seekInLogs looks through the logs of orlogd, of the agent, and what shims and runc have left.
func (c canaries) seekInLogs(t *testing.T) {
	t.Helper()
	seen := map[string]bool{}
	err := filepath.WalkDir(the.dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(the.dir, path)
		switch {
		case err != nil:
			return err
		case d.IsDir() && (rel == "node/images" || rel == "orlogd" || strings.HasPrefix(rel, "node/projection")):
			return fs.SkipDir // the log, what is projected from it, and images are no logs
		case d.IsDir() || !strings.HasSuffix(rel, ".log"):
			return nil
		}
		content, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		seen[filepath.Base(rel)] = true
		c.seek(t, rel, content)
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	for _, want := range []string{"orlogd.log", "orlog-agent.log", "shim.log"} {
		if !seen[want] {
			t.Errorf("no %s was looked at, only %v", want, seen)
		}
	}
	if b, err := os.ReadFile(filepath.Join(the.dir, "orlogd.log")); err != nil || !bytes.Contains(b, []byte("level=DEBUG")) {
		t.Errorf("orlogd did not log at the level debug: %v", err)
	}
}

// failed checks that a pod has failed, for one of the reasons where some are given.
func failed(ns, name, reasons string) error {
	out, err := the.run("kubectl", "get", "pod", name, "-n", ns, "-o", "jsonpath={.status.containerStatuses[*].state.waiting.reason} {.status.containerStatuses[*].state.terminated.reason}")
	if err != nil {
		return err
	}
	said := strings.TrimSpace(out)
	if said != "" && (reasons == "" || strings.Contains(reasons, strings.Fields(said)[0])) {
		return nil
	}
	return fmt.Errorf("it says %q", said)
}

const canaryPods = `
apiVersion: v1
kind: Pod
metadata: {name: well, labels: {canary: well}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: main
    image: orlog.local/test/busybox:1
    args: [-c, "exec sleep 3600"]
    env: [{name: CANARY, valueFrom: {secretKeyRef: {name: canary, key: one}}}]
    envFrom: [{secretRef: {name: canary}}]
    volumeMounts: [{name: secret, mountPath: /secret}]
    livenessProbe: {exec: {command: [sh, -c, "exit 1"]}, periodSeconds: 5, failureThreshold: 1000}
  volumes: [{name: secret, secret: {secretName: canary}}]
---
apiVersion: v1
kind: Pod
metadata: {name: no-command, labels: {canary: badly}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: main
    image: orlog.local/test/busybox:1
    command: [/no/such/program]
    env: [{name: CANARY, valueFrom: {secretKeyRef: {name: canary, key: one}}}]
    envFrom: [{secretRef: {name: canary}}]
---
apiVersion: v1
kind: Pod
metadata: {name: no-key, labels: {canary: badly}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: main
    image: orlog.local/test/busybox:1
    args: [-c, "exec sleep 3600"]
    env:
    - {name: CANARY, valueFrom: {secretKeyRef: {name: canary, key: one}}}
    - {name: MISSING, valueFrom: {secretKeyRef: {name: canary, key: none}}}
---
apiVersion: v1
kind: Pod
metadata: {name: killed, labels: {canary: badly}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: main
    image: orlog.local/test/busybox:1
    args: [-c, "exit 3"]
    env: [{name: CANARY, valueFrom: {secretKeyRef: {name: canary, key: two}}}]
    volumeMounts: [{name: secret, mountPath: /secret}]
  volumes: [{name: secret, secret: {secretName: canary, items: [{key: two, path: two}]}}]
---
apiVersion: v1
kind: Pod
metadata: {name: no-image, labels: {canary: badly}}
spec:
  terminationGracePeriodSeconds: 0
  imagePullSecrets: [{name: pull}]
  containers:
  - {name: main, image: "127.0.0.1:1/none:1"}
`
