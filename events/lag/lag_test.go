package lag_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/events/lag"
	"github.com/orlog-io/orlog/events/memlog"
)

// gather are the samples of a registry, by "name{reader}".
func gather(t *testing.T, g prometheus.Gatherer) map[string]float64 {
	t.Helper()
	families, err := g.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			out[f.GetName()+reader(m)] = m.GetGauge().GetValue()
		}
	}
	return out
}

func reader(m *dto.Metric) string { return "{" + m.GetLabel()[0].GetValue() + "}" }

func TestLag(t *testing.T) {
	clock := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	now := func() time.Time { return clock }
	log := memlog.NewWithClock(now)
	t.Cleanup(func() { _ = log.Close() })
	for i := range 5 {
		e := events.Event{Subject: events.Subject{Class: events.Desired, Key: events.Key{Resource: "pods", Namespace: "a", Name: fmt.Sprint("p", i)}},
			Type: "io.orlog.pod.created", Source: "test", Actor: "test", UID: "u", Time: clock, Object: []byte(`{}`)}
		if _, err := log.Append(t.Context(), events.Entry{Event: e}); err != nil {
			t.Fatal(err)
		}
		clock = clock.Add(10 * time.Second)
	}
	// Stored at 0, 10, 20, 30 and 40 s; it is 50 s now.
	slow := events.Sequence(2)
	r := prometheus.NewRegistry()
	r.MustRegister(lag.New(now,
		lag.Reader{Name: "done", Log: log, Position: func() events.Sequence { return 5 }},
		lag.Reader{Name: "slow", Log: log, Position: func() events.Sequence { return slow }},
		lag.Reader{Name: "part", Log: log, Position: func() events.Sequence { return slow },
			End: func(context.Context) (events.Sequence, error) { return 4, nil }}))

	for name, want := range map[string]float64{
		"orlog_projection_lag_events{done}": 0, "orlog_projection_lag_seconds{done}": 0, "orlog_projection_position{done}": 5,
		"orlog_projection_lag_events{part}": 2, "orlog_projection_lag_seconds{part}": 20,
		"orlog_projection_lag_events{slow}": 3, "orlog_projection_lag_seconds{slow}": 30, "orlog_log_reachable{slow}": 1,
	} {
		if got := gather(t, r)[name]; got != want {
			t.Errorf("%s = %v, want %v", name, got, want)
		}
	}
	clock, slow = clock.Add(time.Hour), 5
	if got := gather(t, r)["orlog_projection_lag_seconds{slow}"]; got != 0 {
		t.Errorf("an idle reader is %v s behind", got)
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	got := gather(t, r)
	if _, has := got["orlog_projection_lag_events{slow}"]; has || got["orlog_log_reachable{slow}"] != 0 || got["orlog_projection_position{slow}"] != 5 {
		t.Errorf("while the log does not answer: %v", got)
	}
}
