package lag

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/orlog-io/orlog/events"
)

// patience bounds what a scrape waits for the log.
const patience = 2 * time.Second

// Reader is somebody who reads a log from its beginning to its end.
type Reader struct {
	// Name is the reader's label: few, and fixed.
	Name string
	Log  events.Log
	// Position is the newest sequence that the reader has taken in.
	Position func() events.Sequence
	// End is the newest sequence that concerns the reader, for one that does not read everything; nil: the log's
	// last. Its lag in seconds is then the age of that event.
	End func(context.Context) (events.Sequence, error)
}

// Collector is a prometheus.Collector. Make it with New.
type Collector struct {
	readers []Reader
	now     func() time.Time
}

// New makes a collector. now is the clock; nil: time.Now.
func New(now func() time.Time, readers ...Reader) *Collector {
	if now == nil {
		now = time.Now
	}
	return &Collector{readers, now}
}

var (
	position = prometheus.NewDesc("orlog_projection_position", "The newest sequence of the log that a reader has taken in.", []string{"reader"}, nil)
	behind   = prometheus.NewDesc("orlog_projection_lag_events", "How many sequences of the log a reader has not taken in yet. Missing while the log does not answer.", []string{"reader"}, nil)
	late     = prometheus.NewDesc("orlog_projection_lag_seconds", "Age of the oldest event that a reader has not taken in yet, 0 where it has taken in all. Missing while the log does not answer.", []string{"reader"}, nil)
	answers  = prometheus.NewDesc("orlog_log_reachable", "Whether the log that a reader reads answered this scrape: 1 or 0.", []string{"reader"}, nil)
)

// Describe implements prometheus.Collector.
func (c *Collector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{position, behind, late, answers} {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (c *Collector) Collect(to chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	lasts := map[events.Log]end{}
	for _, r := range c.readers {
		// The position first: a reader must not seem to be ahead of the log.
		at := r.Position()
		send := func(d *prometheus.Desc, value float64) {
			to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, r.Name)
		}
		send(position, float64(at))
		last, oldest := r.end(ctx, lasts), at+1
		if r.End != nil {
			oldest = last.sequence
		}
		var seconds float64
		err := last.err
		if err == nil && last.sequence > at {
			seconds, err = c.age(ctx, r.Log, oldest, last.sequence)
		}
		if err != nil {
			send(answers, 0)
			continue
		}
		send(answers, 1)
		send(behind, float64(last.sequence-min(at, last.sequence)))
		send(late, seconds)
	}
}

type end struct {
	sequence events.Sequence
	err      error
}

// end asks where the reader should be; what is known of a whole log is asked once.
func (r Reader) end(ctx context.Context, known map[events.Log]end) end {
	var e end
	if r.End != nil {
		e.sequence, e.err = r.End(ctx)
		return e
	}
	e, asked := known[r.Log]
	if !asked {
		e.sequence, e.err = r.Log.Last(ctx)
		known[r.Log] = e
	}
	return e
}

// age is how old the event at a sequence is or, where the log does not keep it any more, the newest one.
func (c *Collector) age(ctx context.Context, log events.Log, at, last events.Sequence) (float64, error) {
	e, err := log.Get(ctx, at)
	if errors.Is(err, events.ErrNotFound) {
		if e, err = log.Get(ctx, last); errors.Is(err, events.ErrNotFound) {
			return 0, nil
		}
	}
	if err != nil {
		return 0, err
	}
	return max(0, c.now().Sub(e.Stored).Seconds()), nil
}
