package notary

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// measure registers the notary's metrics; they are worked out when they are asked for.
func (n *Notary) measure(to prometheus.Registerer) error {
	if to == nil {
		return nil
	}
	gauge := func(name, help string, value func(Checkpoint) float64) error {
		return to.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "orlog", Subsystem: "notary", Name: name, Help: help}, func() float64 {
			c, _ := n.Checkpoint()
			if c.Size == 0 {
				return 0
			}
			return value(c)
		}))
	}
	return errors.Join(
		gauge("checkpoint_sequence", "The newest event that a signed checkpoint covers, 0 before the first.", func(c Checkpoint) float64 { return float64(c.Size) }),
		gauge("checkpoint_age_seconds", "How long ago the last checkpoint was signed. It grows while nothing happens: what is late shows as reader=\"notary\" of orlog_projection_lag_seconds.",
			func(c Checkpoint) float64 { return max(0, n.o.Now().Sub(c.Time).Seconds()) }))
}
