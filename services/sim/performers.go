package sim

import (
	"fmt"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/services/loop"
)

// request performs a reconciler's effects through the gateway.
func (w *world) request(u *unit, effects []loop.Effect, causes []events.Cause) []loop.Result {
	out := make([]loop.Result, len(effects))
	for i, e := range effects {
		if err := w.faults.beforeRequest(); err != nil {
			out[i].Err = err
			continue
		}
		cause := causes[i]
		if spoil := w.bugs.Cause; spoil != nil {
			cause = spoil(cause)
		}
		seq, err := w.api.perform(request{Effect: e, actor: u.spec.Identity.User, cause: cause})
		if err == nil {
			err = w.faults.afterRequest()
		}
		if err = outcome(e.Verb, err); err != nil {
			out[i].Err = err
		} else {
			out[i].Sequence = seq
		}
	}
	return out
}

// appendBindings performs the scheduler's effects as loop.Append does.
func (w *world) appendBindings(u *unit, effects []loop.Effect, causes []events.Cause) []loop.Result {
	out := make([]loop.Result, len(effects))
	if err := w.faults.conflict(); err != nil {
		for i := range out {
			out[i].Err = err
		}
		return out
	}
	entry := func(i int) events.Entry {
		w.uids++
		e := *effects[i].Entry
		e.Event.ID, e.Event.Source, e.Event.Actor, e.Event.Time = fmt.Sprintf("scheduler-%d", w.uids), "scheduler", u.spec.Identity.User, w.clock.now
		e.Event.Cause, e.Event.Correlation, e.Event.Reason = causes[i].Sequence, causes[i].Correlation, effects[i].Reason
		return e
	}
	if len(effects) > 1 {
		var entries []events.Entry
		for i := range effects {
			entries = append(entries, entry(i))
		}
		seqs, err := w.appendRetrying(entries...)
		if err == nil || isUnavailable(err) {
			for i := range out {
				if out[i].Err = err; err == nil {
					out[i].Sequence = seqs[i]
				}
			}
			return out
		}
	}
	for i := range effects {
		seqs, err := w.appendRetrying(entry(i))
		if out[i].Err = err; err == nil {
			out[i].Sequence = seqs[0]
		}
	}
	return out
}

// appendRetrying retries what may or may not have happened, as loop.Append does.
func (w *world) appendRetrying(entries ...events.Entry) (seqs []events.Sequence, err error) {
	for range 5 {
		if seqs, err = w.append(w.record, entries...); !isUnavailable(err) {
			break
		}
	}
	return seqs, err
}
