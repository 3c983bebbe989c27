package loop

import (
	"context"
	"errors"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/util/uuid"

	"github.com/orlog-io/orlog/events"
)

// Append performs AppendEvent effects on the log directly, with their compare-and-swap: facts, not requests.
type Append struct {
	Log events.Log
	// Source and Actor are those of the events.
	Source, Actor string
	// Now is the clock (nil: time.Now).
	Now func() time.Time
}

// Perform appends one event.
func (a *Append) Perform(ctx context.Context, e Effect, why events.Cause) (events.Sequence, error) {
	entry, err := a.entry(e, why)
	if err != nil {
		return 0, err
	}
	seqs, err := a.append(ctx, entry)
	if err != nil {
		return 0, err
	}
	return seqs[0], nil
}

// PerformAll appends all events in one durable write where no guard fails, else each on its own. Where it is
// unknown whether that write happened, it leaves it at that: a second one with other ids could not tell either.
func (a *Append) PerformAll(ctx context.Context, effects []Effect, causes []events.Cause) []Result {
	out := make([]Result, len(effects))
	if len(effects) > 1 && len(effects) <= events.MaxBatch {
		seqs, err := a.appendAll(ctx, effects, causes)
		if err == nil || errors.Is(err, events.ErrUnavailable) {
			for i := range out {
				if out[i].Err = err; err == nil {
					out[i].Sequence = seqs[i]
				}
			}
			return out
		}
	}
	for i, e := range effects {
		out[i].Sequence, out[i].Err = a.Perform(ctx, e, causes[i])
	}
	return out
}

func (a *Append) appendAll(ctx context.Context, effects []Effect, causes []events.Cause) ([]events.Sequence, error) {
	entries := make([]events.Entry, len(effects))
	for i, e := range effects {
		entry, err := a.entry(e, causes[i])
		if err != nil {
			return nil, err
		}
		entries[i] = entry
	}
	return a.append(ctx, entries...)
}

func (a *Append) entry(e Effect, why events.Cause) (events.Entry, error) {
	if e.Verb != AppendEvent || e.Entry == nil {
		return events.Entry{}, fmt.Errorf("effect %q on %s: %w: only events can be appended", e.Verb, e.Key, events.ErrInvalid)
	}
	now := time.Now
	if a.Now != nil {
		now = a.Now
	}
	entry := *e.Entry
	entry.Event.ID = string(uuid.NewUUID())
	entry.Event.Source, entry.Event.Actor, entry.Event.Time = a.Source, a.Actor, now()
	entry.Event.Cause, entry.Event.Correlation, entry.Event.TraceParent = why.Sequence, why.Correlation, why.TraceParent
	if e.Reason != "" {
		entry.Event.Reason = e.Reason
	}
	return entry, nil
}

// append retries what may or may not have happened: the ids tell the log what it has already.
func (a *Append) append(ctx context.Context, entries ...events.Entry) ([]events.Sequence, error) {
	wait := 50 * time.Millisecond
	for try := 1; ; try++ {
		seqs, err := a.Log.Append(ctx, entries...)
		if err == nil || !errors.Is(err, events.ErrUnavailable) || try == 5 {
			return seqs, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(wait):
			wait *= 2
		}
	}
}
