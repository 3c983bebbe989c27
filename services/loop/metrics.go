package loop

import (
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/orlog-io/orlog/events"
)

// Outcomes of decisions, as metrics name them.
const (
	outcomeNone        = "none" // nothing was to be done
	outcomeDone        = "done"
	outcomeConflict    = "conflict"
	outcomeInvalid     = "invalid"
	outcomeUnavailable = "unavailable"
	outcomeFailed      = "failed"
)

// metrics are those of the deciders of one Run; nil without a registry.
type metrics struct {
	decide, perform *prometheus.HistogramVec
	decisions       *prometheus.CounterVec
	retries         *prometheus.CounterVec
}

func newMetrics(to prometheus.Registerer) (*metrics, error) {
	if to == nil {
		return nil, nil
	}
	seconds := func(name, help string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: "orlog", Name: name, Help: help,
			Buckets: prometheus.ExponentialBuckets(0.00005, 4, 10)}, []string{"decider"})
	}
	count := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "orlog", Name: name, Help: help}, append([]string{"decider"}, labels...))
	}
	m := &metrics{
		decide:    seconds("decide_duration_seconds", "How long deciders took to decide, reading their view included, by decider. A batch counts once."),
		perform:   seconds("perform_duration_seconds", "How long it took to carry out decisions that ask for something, by decider. A batch counts once."),
		decisions: count("decisions_total", "Decisions by decider and by what became of them: none (nothing was to be done), done, conflict (somebody was faster), invalid (refused), unavailable, failed.", "outcome"),
		retries:   count("decision_retries_total", "Keys that were put back to be decided again after a failure, by decider."),
	}
	if err := register(to, m.decide, m.perform, m.decisions, m.retries); err != nil {
		return nil, err
	}
	return m, nil
}

func register(to prometheus.Registerer, all ...prometheus.Collector) error {
	for _, c := range all {
		if err := to.Register(c); err != nil {
			return fmt.Errorf("metrics of the deciders: %w", err)
		}
	}
	return nil
}

// measures are one decider's. The zero measures measure nothing.
type measures struct {
	decide, perform prometheus.Observer
	decisions       map[string]prometheus.Counter // by outcome
	retries         prometheus.Counter
}

func (m *metrics) of(decider string) measures {
	if m == nil {
		return measures{}
	}
	out := measures{m.decide.WithLabelValues(decider), m.perform.WithLabelValues(decider), map[string]prometheus.Counter{}, m.retries.WithLabelValues(decider)}
	for _, outcome := range []string{outcomeNone, outcomeDone, outcomeConflict, outcomeInvalid, outcomeUnavailable, outcomeFailed} {
		out.decisions[outcome] = m.decisions.WithLabelValues(decider, outcome)
	}
	return out
}

func (m measures) decided(cost time.Duration) {
	if m.decide != nil {
		m.decide.Observe(cost.Seconds())
	}
}

func (m measures) performed(cost time.Duration) {
	if m.perform != nil {
		m.perform.Observe(cost.Seconds())
	}
}

func (m measures) became(outcome string) {
	if c := m.decisions[outcome]; c != nil {
		c.Inc()
	}
}

func (m measures) retried() {
	if m.retries != nil {
		m.retries.Inc()
	}
}

// outcomeOf is what became of a decision.
func outcomeOf(d Decision, err error) string {
	switch {
	case err == nil && len(d.Steps) == 0:
		return outcomeNone
	case err == nil:
		return outcomeDone
	case errors.Is(err, events.ErrConflict):
		return outcomeConflict
	case errors.Is(err, events.ErrInvalid):
		return outcomeInvalid
	case errors.Is(err, events.ErrUnavailable):
		return outcomeUnavailable
	}
	return outcomeFailed
}

// queues tells how many keys wait, by decider, when it is asked.
type queues []*unit

var (
	queueDepth   = prometheus.NewDesc("orlog_decider_queue_depth", "Keys that wait to be decided now, by decider.", []string{"decider"}, nil)
	queueDelayed = prometheus.NewDesc("orlog_decider_queue_delayed", "Keys that are to be decided at a later time (a timer, a backoff), by decider.", []string{"decider"}, nil)
	queueParked  = prometheus.NewDesc("orlog_decider_queue_parked", "Keys that wait until the world changes, such as pods that fit nowhere, by decider.", []string{"decider"}, nil)
)

// Describe implements prometheus.Collector.
func (q queues) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{queueDepth, queueDelayed, queueParked} {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (q queues) Collect(to chan<- prometheus.Metric) {
	for _, u := range q {
		ready, delayed, parked := u.queue.lengths()
		for d, n := range map[*prometheus.Desc]int{queueDepth: ready, queueDelayed: delayed, queueParked: parked} {
			to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(n), u.spec.Name)
		}
	}
}

// lengths are how many keys wait: now, for a time, and for a change.
func (q *queue) lengths() (ready, delayed, parked int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.order), len(q.timers), len(q.parked)
}
