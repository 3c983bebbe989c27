package gateway

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/events/memlog"
	"github.com/orlog-io/orlog/events/tracing"
)

const theirTrace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

// makeMap creates a ConfigMap and returns the event of it.
func (c *cluster) makeMap(t *testing.T, name string, headers ...string) events.Event {
	t.Helper()
	return c.makeMapAs(t, "deployment-controller", name, headers...)
}

func (c *cluster) makeMapAs(t *testing.T, account, name string, headers ...string) events.Event {
	t.Helper()
	config := c.admin(t)
	if account != "" {
		config = c.LoopbackConfig()
		config.Impersonate.UserName = systemControllers + account
		config.Impersonate.Groups = []string{"system:masters"}
	}
	code, body := do(t, config, http.MethodPost, "/api/v1/namespaces/default/configmaps", fmt.Sprintf(`{"metadata":{"name":%q}}`, name), headers...)
	var made struct {
		Metadata struct{ ResourceVersion string }
	}
	if err := json.Unmarshal([]byte(body), &made); err != nil || code != http.StatusCreated {
		t.Fatalf("%d %s", code, body)
	}
	seq, err := events.ParseSequence(made.Metadata.ResourceVersion)
	if err != nil {
		t.Fatal(err)
	}
	e, found, err := c.store.EventAt(seq)
	if err != nil || !found {
		t.Fatalf("event %d: %t, %v", seq, found, err)
	}
	return e
}

// TestATraceIsPassedOn: without tracing of our own.
func TestATraceIsPassedOn(t *testing.T) {
	c := newCluster(t)
	made := c.makeMapAs(t, "", "asked-for", "Traceparent", theirTrace)
	if made.TraceParent != theirTrace {
		t.Errorf("the client's trace became %q", made.TraceParent)
	}
	if e := c.makeMapAs(t, "", "broken", "Traceparent", "nonsense"); e.TraceParent != "" {
		t.Errorf("nonsense became %q", e.TraceParent)
	}
	if e := c.makeMap(t, "because", HeaderCause, made.Sequence.String()); e.TraceParent != theirTrace || e.Cause != made.Sequence {
		t.Errorf("what it led to carries %q, cause %d", e.TraceParent, e.Cause)
	}
	other := strings.Replace(theirTrace, "4bf9", "1234", 1)
	if e := c.makeMap(t, "own", HeaderCause, made.Sequence.String(), "Traceparent", other); e.TraceParent != other {
		t.Errorf("a request's own trace became %q", e.TraceParent)
	}
}

func TestRequestsAreTracedAndMetricsServed(t *testing.T) {
	spans, ours := tracetest.NewSpanRecorder(), prometheus.NewRegistry()
	ours.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "orlog_test_gauge", Help: "A test."}, func() float64 { return 42 }))
	c := &cluster{dir: t.TempDir(), log: memlog.New(), volatile: memlog.New(), metrics: ours,
		tracer: sdk.NewTracerProvider(sdk.WithSpanProcessor(spans), sdk.WithSampler(sdk.ParentBased(sdk.NeverSample())))}
	c.start(t)
	defer func() { c.stop() }()

	made := tracing.Parse(c.makeMapAs(t, "", "asked-for", "Traceparent", theirTrace).TraceParent)
	if made.TraceID() != tracing.Parse(theirTrace).TraceID() || made.SpanID() == tracing.Parse(theirTrace).SpanID() || !made.IsSampled() {
		t.Errorf("the event's trace is %v", made)
	}
	found := false
	for _, s := range spans.Ended() {
		if s.SpanContext().SpanID() == made.SpanID() {
			found = true
			if s.Parent().SpanID() != tracing.Parse(theirTrace).SpanID() || s.Name() != "POST /api/v1/namespaces/{:namespace}/configmaps" {
				t.Errorf("span %q below %s", s.Name(), s.Parent().SpanID())
			}
		}
	}
	if !found {
		t.Error("the event belongs to no span of the request")
	}
	if e := c.makeMapAs(t, "", "not-asked-for"); tracing.Parse(e.TraceParent).IsSampled() {
		t.Errorf("sampled without being asked for: %s", e.TraceParent)
	}

	text := c.get(t, "/metrics")
	for _, want := range []string{"orlog_test_gauge 42", "apiserver_request_total{", "go_goroutines "} {
		if !strings.Contains(text, "\n"+want) {
			t.Errorf("/metrics lacks %s", want)
		}
	}
	if code, _ := getAs(t, c.config(t, "jo"), "/metrics"); code != http.StatusForbidden {
		t.Errorf("anybody may read /metrics: %d", code)
	}
	if code, body := getAs(t, c.config(t, "prometheus", "system:monitoring"), "/metrics"); code != http.StatusOK || !strings.Contains(body, "orlog_test_gauge 42") {
		t.Errorf("a monitoring user may not read /metrics: %d", code)
	}
}
