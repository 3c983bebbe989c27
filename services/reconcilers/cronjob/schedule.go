package cronjob

import (
	"fmt"
	"time"
	_ "time/tzdata" // schedules name time zones, and a host need not have them

	"github.com/robfig/cron/v3"
	batchv1 "k8s.io/api/batch/v1"
)

// grain is how long after a scheduled time its Job is started at the earliest: clocks and timers are not exact.
const grain = 100 * time.Millisecond

// clock is a CronJob's schedule in its time zone.
type clock struct {
	cron.Schedule
	zone *time.Location
}

// clockOf reads a schedule. The API admits no invalid one, but objects outlive its rules.
func clockOf(c *batchv1.CronJob) (out clock, err error) {
	defer func() {
		if p := recover(); p != nil { // the parser panics on some time zones without a schedule
			err = fmt.Errorf("schedule %q: %v", c.Spec.Schedule, p)
		}
	}()
	out.zone = time.UTC
	if z := c.Spec.TimeZone; z != nil {
		if out.zone, err = time.LoadLocation(*z); err != nil {
			return out, fmt.Errorf("timeZone %q: %w", *z, err)
		}
	}
	if out.Schedule, err = cron.ParseStandard(c.Spec.Schedule); err != nil {
		return out, fmt.Errorf("schedule %q: %w", c.Spec.Schedule, err)
	}
	return out, nil
}

// after is the first scheduled time after t; zero: there is none within five years.
func (c clock) after(t time.Time) time.Time { return c.Next(t.In(c.zone)) }

// due is the newest scheduled time after since that has come by now; zero: none has. It does not walk through
// all that was missed, which may be years.
func (c clock) due(since, now time.Time) time.Time {
	first := c.after(since)
	if first.IsZero() || now.Before(first) {
		return time.Time{}
	}
	second := c.after(first)
	gap := second.Sub(first)
	if second.IsZero() || now.Before(second) || gap < time.Second {
		return first
	}
	// Whole gaps keep an @every schedule in step. Where gaps differ the jump may land short of now, or past the
	// newest time: go back until it does not.
	from := first.Add(now.Sub(first).Truncate(gap) - gap)
	newest := first
	for t := c.after(from); !t.IsZero() && !t.After(now); t = c.after(t) {
		newest = t
	}
	for back := gap; newest.Equal(first) && from.After(first); back *= 2 {
		from = from.Add(-back)
		for t := c.after(from); !t.IsZero() && !t.After(now); t = c.after(t) {
			newest = t
		}
	}
	return newest
}
