package loop

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/orlog-io/orlog/events"
)

// Batcher is a Performer that takes the effects of a whole batch of decisions at once, which is how bindings
// become one durable write.
type Batcher interface {
	// PerformAll performs each effect on its own merits: result i tells about effect i.
	PerformAll(ctx context.Context, effects []Effect, causes []events.Cause) []Result
}

// Result is what became of an effect.
type Result struct {
	Sequence events.Sequence
	Err      error
}

// performAll carries out decisions about a batch of keys, and schedules what comes next for each. The deciding began
// at began.
func (u *unit) performAll(ctx context.Context, batch []work, decisions []Decision, began time.Time) error {
	if len(decisions) != len(batch) {
		return fmt.Errorf("decider %s made %d decisions about %d keys: %w", u.spec.Name, len(decisions), len(batch), events.ErrInvalid)
	}
	for i, d := range decisions {
		for _, e := range d.Effects() {
			if !u.spec.declared(e) {
				return fmt.Errorf("decider %s: effect %s on %s is not among its declared outputs: %w", u.spec.Name, e.Verb, batch[i].key, events.ErrInvalid)
			}
		}
	}
	if b, ok := u.Performer.(Batcher); ok && len(batch) > 1 {
		u.performBatch(ctx, b, batch, decisions, began)
		return nil
	}
	for i, w := range batch {
		span, as := u.traced(w, decisions[i], began)
		acting := time.Now()
		err := u.perform(ctx, as, decisions[i])
		if len(decisions[i].Steps) > 0 {
			u.performed(time.Since(acting))
		}
		u.finish(ctx, span, w, decisions[i], err)
		u.settle(ctx, w, decisions[i], err)
	}
	return nil
}

// performBatch performs all effects of all decisions together.
func (u *unit) performBatch(ctx context.Context, b Batcher, batch []work, decisions []Decision, began time.Time) {
	spans := make([]trace.Span, len(batch))
	var effects []Effect
	var causes []events.Cause
	var owner []int
	for i, d := range decisions {
		span, as := u.traced(batch[i], d, began)
		spans[i] = span
		for _, e := range d.Effects() {
			effects, causes, owner = append(effects, e), append(causes, as.why.Cause), append(owner, i)
		}
	}
	failed := make([]error, len(batch))
	if len(effects) > 0 {
		acting := time.Now()
		for j, r := range b.PerformAll(ctx, effects, causes) {
			if r.Err != nil {
				failed[owner[j]] = errors.Join(failed[owner[j]], r.Err)
			} else {
				u.noteWrite(batch[owner[j]].key, effects[j], r.Sequence)
			}
		}
		u.performed(time.Since(acting))
	}
	for i, w := range batch {
		u.finish(ctx, spans[i], w, decisions[i], failed[i])
		u.settle(ctx, w, decisions[i], failed[i])
	}
}

// perform carries out one decision's steps in order.
func (u *unit) perform(ctx context.Context, w work, d Decision) error {
	var all error
	for _, step := range d.Steps {
		if step.AfterSuccess && all != nil {
			break
		}
		all = errors.Join(all, u.step(ctx, w, step.Effects))
	}
	if d.Refused == nil || all == nil || ctx.Err() != nil || errors.Is(all, events.ErrConflict) || errors.Is(all, events.ErrUnavailable) {
		return all
	}
	more := d.Refused(all)
	for _, e := range more {
		if !u.spec.declared(e) {
			return errors.Join(all, fmt.Errorf("decider %s: effect %s on %s is not among its declared outputs: %w", u.spec.Name, e.Verb, e.Key, events.ErrInvalid))
		}
	}
	return errors.Join(all, u.step(ctx, w, more))
}

// parallel is how many effects of a step are under way at once at most.
const parallel = 32

// step performs effects in batches of 1, 2, 4, ..., stopping after a batch with a failure.
func (u *unit) step(ctx context.Context, w work, effects []Effect) error {
	for size := 1; len(effects) > 0; size = min(2*size, parallel) {
		n := min(size, len(effects))
		errs := make([]error, n)
		var wg sync.WaitGroup
		for i, e := range effects[:n] {
			do := func() {
				seq, err := u.Performer.Perform(ctx, e, w.why.Cause)
				if err != nil {
					errs[i] = fmt.Errorf("%s %s: %w", e.Verb, e.Key, err)
					return
				}
				u.noteWrite(w.key, e, seq)
			}
			if n == 1 {
				do()
			} else {
				wg.Go(do)
			}
		}
		wg.Wait()
		if err := errors.Join(errs...); err != nil {
			return err
		}
		effects = effects[n:]
	}
	return nil
}
