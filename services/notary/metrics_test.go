package notary

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

func TestCheckpointMetrics(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	registry := prometheus.NewRegistry()
	n, err := Open(Options{Dir: t.TempDir(), Origin: "orlog/test", Now: func() time.Time { return now }, Registry: registry})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	check := func(sequence, age float64) {
		t.Helper()
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]float64{}
		for _, f := range families {
			got[f.GetName()] = f.GetMetric()[0].GetGauge().GetValue()
		}
		if got["orlog_notary_checkpoint_sequence"] != sequence || got["orlog_notary_checkpoint_age_seconds"] != age {
			t.Errorf("%v, want sequence %v and age %v", got, sequence, age)
		}
	}
	check(0, 0)
	n.mu.Lock()
	n.last = Checkpoint{Size: 7, Time: now}
	n.mu.Unlock()
	now = now.Add(90 * time.Second)
	check(7, 90)
}
