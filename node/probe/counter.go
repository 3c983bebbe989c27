package probe

import (
	"time"

	v1 "k8s.io/api/core/v1"
)

// Verdict is what a probe has come to.
type Verdict int

// Verdicts.
const (
	Unknown Verdict = iota
	Success
	Failure
)

// Kind is what a probe asks about.
type Kind string

// The kinds, as they appear in events.
const (
	Startup   Kind = "Startup"
	Readiness Kind = "Readiness"
	Liveness  Kind = "Liveness"
)

// Counter turns answers into a verdict: it changes after so many equal answers in a row as the threshold says.
type Counter struct {
	Verdict Verdict
	last    bool
	run     int32
}

// NewCounter starts a probe on a new attempt. Until it knows better, a container is alive, not ready, and not
// known to have started.
func NewCounter(k Kind) Counter {
	switch k {
	case Readiness:
		return Counter{Verdict: Failure}
	case Liveness:
		return Counter{Verdict: Success}
	}
	return Counter{}
}

// Observe counts an answer and reports whether the verdict changed.
func (c *Counter) Observe(p *v1.Probe, ok bool) bool {
	if c.run == 0 || ok != c.last {
		c.run = 0
	}
	c.last = ok
	c.run++
	threshold, verdict := max(p.FailureThreshold, 1), Failure
	if ok {
		threshold, verdict = max(p.SuccessThreshold, 1), Success
	}
	if c.run < threshold || c.Verdict == verdict {
		return false
	}
	c.Verdict = verdict
	return true
}

func seconds(n, fallback int32) time.Duration {
	if n <= 0 {
		n = fallback
	}
	return time.Duration(n) * time.Second
}

// pace tells when a probe asks next. Counted answers come a period apart. Before a container has started or has
// become ready for the first time, there are further tries in between, at growing distances, of which only a
// success counts: a quick container need not wait for a period to pass.
type pace struct {
	period time.Duration
	eager  bool          // still waiting for the first success
	due    time.Time     // the next counted answer
	gap    time.Duration // before the next try in between
}

const firstGap = 50 * time.Millisecond

func newPace(p *v1.Probe, k Kind, first time.Time) *pace {
	return &pace{period: seconds(p.PeriodSeconds, 10), eager: k != Liveness, due: first, gap: firstGap}
}

// next is when to ask again, and whether that answer counts whatever it is.
func (p *pace) next(now time.Time) (at time.Time, counts bool) {
	if p.eager {
		if at = now.Add(p.gap); at.Before(p.due) {
			p.gap *= 2
			return at, false
		}
	}
	return p.due, true
}

// asked notes an answer.
func (p *pace) asked(now time.Time, counted, ok bool) {
	if ok {
		p.eager = false
	}
	if counted {
		if p.due = p.due.Add(p.period); !p.due.After(now) {
			p.due = now.Add(p.period)
		}
	}
}
