//go:build system

package systemtest

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

const (
	askedTrace  = "4bf92f3577b34da6a3ce929d0e0e4736"
	askedSpan   = "00f067aa0ba902b7"
	traceparent = "00-" + askedTrace + "-" + askedSpan + "-01"
)

// traced sends a traceparent with every request, as a traced client does.
type traced struct{ next http.RoundTripper }

func (t traced) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Traceparent", traceparent)
	return t.next.RoundTrip(r)
}

// TestOneTraceFromTheRequestToTheContainer: the spans of both processes, and of everybody in between, hang together.
func TestOneTraceFromTheRequestToTheContainer(t *testing.T) {
	ns := namespace(t)
	config, err := clientcmd.BuildConfigFromFlags("", the.kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	config.Dial = dialInside
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { return traced{next} })
	c, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	labels := map[string]string{"app": "traced"}
	d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "traced"}, Spec: appsv1.DeploymentSpec{
		Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels},
			Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "web", Image: "orlog.local/demo/web:1.0"}}}}}}
	if _, err := c.AppsV1().Deployments(ns).Create(t.Context(), d, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	must(t, "kubectl", "rollout", "status", "deployment/traced", "-n", ns, "--timeout=60s")

	var last span
	eventually(t, 30*time.Second, "the container's start in the trace", func() error {
		for _, s := range the.traces.trace(askedTrace) {
			if s.name == "pod container" {
				last = s
				return nil
			}
		}
		return fmt.Errorf("%d spans", len(the.traces.trace(askedTrace)))
	})
	// Each process sends its spans when it likes; the way up is complete once both have.
	var path []string
	eventually(t, 30*time.Second, "the way from the container's start up to the request", func() error {
		spans := the.traces.trace(askedTrace)
		path = nil
		for s := last; ; {
			path = append([]string{s.service + " " + s.name}, path...)
			if s.parent == askedSpan {
				return nil
			}
			up, known := spans[s.parent]
			if !known {
				return fmt.Errorf("the parent of %q has not come: %v", s.name, path)
			}
			s = up
		}
	})
	want := []string{
		"orlogd POST /apis/apps/v1/namespaces/{:namespace}/deployments",
		"orlogd decide deployment",
		"orlogd POST /apis/apps/v1/namespaces/{:namespace}/replicasets",
		"orlogd decide replicaset",
		"orlogd POST /api/v1/namespaces/{:namespace}/pods",
		"orlogd decide scheduler",
		"orlog-agent pod container",
	}
	if !slices.Equal(path, want) {
		t.Errorf("from the request to the container:\n%s\nwant\n%s", strings.Join(path, "\n"), strings.Join(want, "\n"))
	}
	eventually(t, 20*time.Second, "the other spans", func() error {
		have := map[string]bool{}
		for _, s := range the.traces.trace(askedTrace) {
			have[s.service+" "+s.name] = true
			if s.service == "orlog-agent" && strings.HasPrefix(s.name, "append io.orlog.pod.") {
				have["orlog-agent append"] = true // that the pod runs, told in one report or several
			}
		}
		for _, name := range []string{"orlogd append io.orlog.deployment.created", "orlogd append io.orlog.pod.bound", "orlog-agent append",
			"orlog-agent pod network", "orlog-agent pod sandbox", "orlog-agent pod image", "orlog-agent pod start"} {
			if !have[name] {
				return fmt.Errorf("no span %q", name)
			}
		}
		return nil
	})
	if n := the.traces.others(askedTrace); n > 0 {
		t.Errorf("%d spans of traces that nobody asked for", n)
	}
}

var family = regexp.MustCompile(`(?m)^# TYPE (orlog_\w+) `)

// TestMetrics scrapes as a Prometheus in the cluster does, by the examples in deploy/dashboards, and holds what is
// documented there against what there is.
func TestMetrics(t *testing.T) {
	ns := namespace(t)
	must(t, "kubectl", "create", "deployment", "measured", "--image", "orlog.local/demo/web:1.0", "-n", ns)
	must(t, "kubectl", "rollout", "status", "deployment/measured", "-n", ns, "--timeout=60s")

	rbac := filepath.Join("..", "..", "deploy", "dashboards", "rbac.yaml")
	must(t, "kubectl", "apply", "-f", rbac)
	t.Cleanup(func() { must(t, "kubectl", "delete", "-f", rbac, "--timeout=60s") })
	token := strings.TrimSpace(must(t, "kubectl", "create", "token", "prometheus", "-n", "monitoring"))
	get := func(url, token string) (int, string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		if token != "" {
			req.Header.Set("Authorization", "Bearer "+token)
		}
		transport := &http.Transport{DialContext: dialInside, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}
		resp, err := (&http.Client{Transport: transport}).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(body)
	}
	scrape := func(what, url, token string, samples ...string) string {
		t.Helper()
		code, text := get(url, token)
		if code != http.StatusOK {
			t.Fatalf("%s: %d %s", what, code, text)
		}
		for _, s := range samples {
			if !strings.Contains(text, "\n"+s) {
				t.Errorf("%s lacks %s", what, s)
			}
		}
		return text
	}
	const api = "https://127.0.0.1:6443"
	if code, _ := get(api+"/metrics", ""); code != http.StatusUnauthorized && code != http.StatusForbidden {
		t.Errorf("the API's metrics are open to anybody: %d", code)
	}
	server := scrape("the API server", api+"/metrics", token, "apiserver_request_total{", `orlog_append_duration_seconds_count{log="orlog",outcome="ok"} `,
		`orlog_projection_lag_events{reader="gateway"} `, `orlog_projection_lag_seconds{reader="narrator"} `, `orlog_log_reachable{reader="notary"} 1`,
		`orlog_decide_duration_seconds_count{decider="scheduler",service="scheduler"} `, `orlog_decisions_total{decider="deployment",outcome="done",service="reconcilers"} `)
	node := scrape("the node", api+"/api/v1/nodes/"+the.id+"/proxy/metrics", token, `orlog_agent_pod_step_duration_seconds_count{outcome="ok",step="container"} `,
		`orlog_projection_lag_events{reader="agent"} `, `orlog_append_duration_seconds_count{log="orlog",outcome="ok"} `, "process_resident_memory_bytes ")
	scrape("orlogd's listener", "http://"+orlogdMetrics+"/metrics", "", "apiserver_request_total{", `orlog_projection_position{reader="gateway"} `)
	scrape("the agent's listener", "http://"+agentMetrics+"/metrics", "", `orlog_projection_position{reader="agent"} `)
	scrape("the node's summary", api+"/api/v1/nodes/"+the.id+"/proxy/stats/summary", token)

	page, err := os.ReadFile(filepath.Join("..", "..", "deploy", "dashboards", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	there := map[string]bool{}
	for _, m := range family.FindAllStringSubmatch(server+node, -1) {
		there[m[1]] = true
		if !strings.Contains(string(page), "`"+m[1]+"`") {
			t.Errorf("%s is not documented in deploy/dashboards/README.md", m[1])
		}
	}
	for _, m := range regexp.MustCompile("`(orlog_\\w+)`").FindAllStringSubmatch(string(page), -1) {
		if !there[m[1]] {
			t.Errorf("deploy/dashboards/README.md documents %s, which there is not", m[1])
		}
	}
}
