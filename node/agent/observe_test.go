package agent

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	v1 "k8s.io/api/core/v1"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/events/tracing"
)

const theTrace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

// safeBuffer may be written to and read at once.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

// lines are the JSON lines written so far.
func (s *safeBuffer) lines(t *testing.T) []map[string]any {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []map[string]any
	for _, l := range bytes.Split(bytes.TrimSpace(s.b.Bytes()), []byte("\n")) {
		var line map[string]any
		if err := json.Unmarshal(l, &line); err != nil {
			t.Fatalf("%v: %s", err, l)
		}
		out = append(out, line)
	}
	return out
}

func TestPodsAreMeasuredTracedAndSpokenOf(t *testing.T) {
	spans, out := tracetest.NewSpanRecorder(), &safeBuffer{}
	b := newBenchWith(t, func(o *Options) {
		o.Tracer = sdk.NewTracerProvider(sdk.WithSpanProcessor(spans))
		o.Logger = slog.New(slog.NewJSONHandler(out, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	b.trace = theTrace
	p := pod("web", nil)
	bound := b.want(p, "bound")
	b.awaitReady(p)
	b.trace = ""
	broken := pod("noimage", func(p *v1.Pod) { p.Spec.Containers[0].Image = "nope:1" })
	b.want(broken, "bound")
	b.await(broken, "waiting", func(_ string, st *v1.PodStatus) bool { return st.ContainerStatuses[0].State.Waiting != nil })
	b.stop()

	for _, e := range b.reports(p) {
		if e.TraceParent != theTrace {
			t.Errorf("%s carries %q, not its cause's trace", e.Type, e.TraceParent)
		}
	}
	var names []string
	for _, s := range spans.Ended() {
		names = append(names, s.Name())
		if s.Parent().SpanID() != tracing.Parse(theTrace).SpanID() {
			t.Errorf("span %s is not below the binding's", s.Name())
		}
	}
	for _, want := range []string{"pod admit", "pod network", "pod sandbox", "pod volumes", "pod image", "pod container", "pod start"} {
		if n := len(slices.DeleteFunc(slices.Clone(names), func(s string) bool { return s != want })); n != 1 {
			t.Errorf("%d spans %q in %v", n, want, names)
		}
	}

	recorder := httptest.NewRecorder()
	b.agent.serveMetrics().ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	text := recorder.Body.String()
	for _, want := range []string{
		`orlog_agent_pod_step_duration_seconds_count{outcome="ok",step="container"} 1`,
		`orlog_agent_pod_step_duration_seconds_count{outcome="ok",step="sandbox"} 2`,
		`orlog_agent_pod_start_duration_seconds_count 1`,
		`orlog_agent_image_pulls_total{outcome="error"} 1`,
		`orlog_agent_image_pulls_total{outcome="invalid"} 0`,
		`orlog_agent_image_pull_bytes_total 0`,
		`orlog_agent_runtime_operation_duration_seconds_count{operation="run_container"} 1`,
		`orlog_agent_reports_oldest_age_seconds 0`,
		`orlog_projection_lag_events{reader="agent"} `,
		`go_goroutines `, `process_open_fds `,
	} {
		if !strings.Contains(text, "\n"+want) {
			t.Errorf("/metrics lacks %s", want)
		}
	}

	told := map[string]bool{}
	for _, line := range out.lines(t) {
		told[line["msg"].(string)] = true
		if line[events.LogObject] != "core/pods/default/web" {
			continue
		}
		if line[events.LogCause] != float64(bound) || line[events.LogTrace] != theTrace {
			t.Errorf("%v: cause %v, traceparent %v", line["msg"], line[events.LogCause], line[events.LogTrace])
		}
		if line["msg"] == "reported" && line[events.LogSequence] == nil {
			t.Error("a report's line lacks its sequence")
		}
	}
	for _, want := range []string{"step done", "step failed", "reported"} {
		if !told[want] {
			t.Errorf("nothing says %q", want)
		}
	}
}

func TestReceivedBytesAreCounted(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if _, err := w.Write(bytes.Repeat([]byte("x"), 100_000)); err != nil {
			t.Error(err)
		}
	}))
	defer server.Close()
	m, err := newMetrics(prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		resp, err := (&http.Client{Transport: countingTransport{m.pullBytes}}).Get(server.URL)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
	var out dto.Metric
	if err := m.pullBytes.Write(&out); err != nil || out.GetCounter().GetValue() != 200_000 {
		t.Errorf("counted %v, %v", out.GetCounter().GetValue(), err)
	}
}
