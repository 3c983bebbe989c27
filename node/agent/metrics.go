package agent

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/orlog-io/orlog/events/lag"
	"github.com/orlog-io/orlog/node/agent/ladder"
)

// metrics are what the agent measures as it goes; the rest is asked for when somebody looks.
type metrics struct {
	steps     *prometheus.HistogramVec
	queued    prometheus.Observer
	starts    prometheus.Observer
	pulls     *prometheus.CounterVec
	pullTime  prometheus.Observer
	pullBytes prometheus.Counter
	runtime   *prometheus.HistogramVec
	runtimeNo *prometheus.CounterVec
}

// stepNames are the ladder's steps that are measured and traced, by the names that operators know.
var stepNames = map[ladder.Kind]string{
	ladder.Admit: "admit", ladder.Connect: "network", ladder.Open: "sandbox", ladder.Fetch: "image-volumes", ladder.Mount: "volumes",
	ladder.Pull: "image", ladder.Start: "container", ladder.PostStart: "post-start",
	ladder.PreStop: "pre-stop", ladder.Term: "stop", ladder.KillNow: "kill", ladder.Teardown: "teardown",
}

const (
	outcomeOK    = "ok"
	outcomeError = "error"
)

func outcomeOf(err error) string {
	if err != nil {
		return outcomeError
	}
	return outcomeOK
}

func newMetrics(to prometheus.Registerer) (*metrics, error) {
	var errs []error
	vec := func(name, help string, first float64, n int, labels ...string) *prometheus.HistogramVec {
		h := prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: "orlog", Subsystem: "agent", Name: name, Help: help,
			Buckets: prometheus.ExponentialBuckets(first, 2, n)}, labels)
		errs = append(errs, to.Register(h))
		return h
	}
	count := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "orlog", Subsystem: "agent", Name: name, Help: help}, labels)
		errs = append(errs, to.Register(c))
		return c
	}
	m := &metrics{
		steps:     vec("pod_step_duration_seconds", "How long each step of bringing pods up and down took, by step and outcome.", 0.001, 16, "step", "outcome"),
		queued:    vec("pod_start_wait_seconds", "How long steps waited because as many pods were being started as may be at once.", 0.001, 16).WithLabelValues(),
		starts:    vec("pod_start_duration_seconds", "From when the node first saw a pod until all its containers had been started.", 0.01, 14).WithLabelValues(),
		pulls:     count("image_pulls_total", "Images asked of registries, by outcome: ok, error, invalid (the name is none).", "outcome"),
		pullTime:  vec("image_pull_duration_seconds", "How long successful pulls of images took, unpacking included.", 0.05, 14).WithLabelValues(),
		pullBytes: count("image_pull_bytes_total", "Bytes received from registries.").WithLabelValues(),
		runtime:   vec("runtime_operation_duration_seconds", "How long operations of the container runtime took, by operation.", 0.001, 14, "operation"),
		runtimeNo: count("runtime_operation_errors_total", "Operations of the container runtime that failed, by operation.", "operation"),
	}
	for _, outcome := range []string{outcomeOK, outcomeError, outcomeInvalid} {
		m.pulls.WithLabelValues(outcome)
	}
	for _, operation := range runtimeOperations { // a rate needs to have seen 0
		m.runtimeNo.WithLabelValues(operation)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("agent: metrics: %w", err)
	}
	return m, nil
}

func (m *metrics) stepped(kind ladder.Kind, took time.Duration, err error) {
	if name, measured := stepNames[kind]; measured {
		m.steps.WithLabelValues(name, outcomeOf(err)).Observe(took.Seconds())
	}
}

const outcomeInvalid = "invalid"

func (m *metrics) pulled(took time.Duration, err error) {
	switch {
	case errors.Is(err, ErrInvalidImage):
		m.pulls.WithLabelValues(outcomeInvalid).Inc()
	case err != nil:
		m.pulls.WithLabelValues(outcomeError).Inc()
	default:
		m.pulls.WithLabelValues(outcomeOK).Inc()
		m.pullTime.Observe(took.Seconds())
	}
}

// registerGauges registers what is looked up when it is asked for.
func (a *Agent) registerGauges() error {
	counter := func(name, help string, value func() float64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{Namespace: "orlog", Subsystem: "agent", Name: name, Help: help}, value)
	}
	gauge := func(name, help string, value func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "orlog", Subsystem: "agent", Name: name, Help: help}, value)
	}
	var errs []error
	for _, c := range []prometheus.Collector{
		counter("reports_appended_total", "Reports that are on the log.", func() float64 { return float64(a.outbox.Stats().Appended) }),
		counter("reports_superseded_total", "Reports that gave way to newer ones.", func() float64 { return float64(a.outbox.Stats().Superseded) }),
		counter("reports_dropped_total", "Reports that the log can never accept: bugs.", func() float64 { return float64(a.outbox.Stats().Dropped) }),
		counter("report_conflicts_total", "Appends that lost against another writer and were merged.", func() float64 { return float64(a.outbox.Stats().Conflicts) }),
		counter("report_retries_total", "Appends that the log did not answer.", func() float64 { return float64(a.outbox.Stats().Retries) }),
		gauge("reports_pending", "Reports that wait for the log.", func() float64 { return float64(a.outbox.Stats().Pending) }),
		gauge("reports_oldest_age_seconds", "Age of the oldest report that waits for the log, 0 where none does.", func() float64 {
			if oldest := a.outbox.Stats().Oldest; !oldest.IsZero() {
				return max(0, time.Since(oldest).Seconds())
			}
			return 0
		}),
		counter("kubernetes_events_dropped_total", "Kubernetes Events dropped because the API did not keep up.", func() float64 { return float64(a.events.dropped.Load()) }),
		gauge("pods", "Pods that the node has to do with.", func() float64 { return float64(len(a.all())) }),
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		lag.New(nil, lag.Reader{Name: "agent", Log: a.o.Log, Position: a.o.Store.Position, End: a.end}),
	} {
		errs = append(errs, a.o.Registry.Register(c))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("agent: metrics: %w", err)
	}
	return nil
}

// serveMetrics answers GET /metrics.
func (a *Agent) serveMetrics() http.Handler {
	return promhttp.HandlerFor(a.o.Registry, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError})
}

// countingTransport counts what registries send.
type countingTransport struct{ received prometheus.Counter }

// RoundTrip implements http.RoundTripper.
func (t countingTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := remote.DefaultTransport.RoundTrip(r)
	if err == nil {
		resp.Body = countingBody{resp.Body, t.received}
	}
	return resp, err
}

type countingBody struct {
	io.ReadCloser
	received prometheus.Counter
}

func (b countingBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.received.Add(float64(n))
	return n, err
}
