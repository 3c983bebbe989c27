package loop

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/orlog-io/orlog/events"
)

// unit is one decider at work.
type unit struct {
	*runner
	Bound
	spec  Spec
	queue *queue
	log   *slog.Logger
	measures

	mu sync.Mutex
	// wrote is the last write for each key (Serial: for all, under the zero key), until a view holds it.
	// Writes of volatile resources are on the other log and have sequences of their own.
	wrote, wroteVolatile map[events.Key]events.Sequence
	// doubts are for which keys a write may or may not have happened.
	doubts map[events.Key]bool
}

func newUnit(r *runner, b Bound) *unit {
	spec := b.Decider.Spec()
	if spec.Serial {
		spec.Workers = 1
	}
	return &unit{runner: r, Bound: b, spec: spec, queue: newQueue(), log: r.Log.With("decider", spec.Name), measures: r.metrics.of(spec.Name), wrote: map[events.Key]events.Sequence{}, wroteVolatile: map[events.Key]events.Sequence{},
		doubts: map[events.Key]bool{}}
}

// mark makes dirty what a change concerns. No event can name one of the volatile log as its cause.
func (u *unit) mark(v *View, c Change, volatile bool) {
	for _, in := range u.spec.Inputs {
		if in.Resource != "*" && (in.Resource != c.Next.Key.Resource || in.Group != c.Next.Key.Group) {
			continue
		}
		var why cause
		if !volatile {
			why = cause{events.CauseOf(c.Event), c.Event.Subject.Class == events.Desired}
		}
		if in.Keys != nil {
			for _, key := range in.Keys(v, c) {
				u.queue.add(key, why)
			}
		}
		if in.Wakes != nil && u.queue.anyWaiting() && in.Wakes(v, c) {
			u.queue.wake()
		}
	}
}

// work decides keys until ctx ends.
func (u *unit) work(ctx context.Context) error {
	for {
		batch, ok := u.queue.take(max(1, u.spec.Batch))
		if !ok {
			return ctx.Err()
		}
		cost, err := u.decide(ctx, batch)
		if err != nil {
			u.decideEach(ctx, batch, err)
		}
		if len(batch) > 1 {
			cost = 0 // no key of a batch is to blame
		}
		for _, w := range batch {
			u.queue.done(w.key, cost)
		}
	}
}

// decideEach decides a failed batch key by key, so that one bad key does not hold up the others.
func (u *unit) decideEach(ctx context.Context, batch []work, err error) {
	for i := range batch {
		if len(batch) > 1 {
			_, err = u.decide(ctx, batch[i:i+1])
		}
		if err != nil {
			u.became(outcomeOf(Decision{}, err))
			u.retry(ctx, batch[i], err)
		}
	}
}

// decide decides about keys at one view and performs the effects. It returns how long the deciding took.
func (u *unit) decide(ctx context.Context, batch []work) (time.Duration, error) {
	if err := u.catchUp(ctx, batch); err != nil {
		return 0, err
	}
	now, began := u.Now(), time.Now()
	v, done := u.view(batch[0].why.Cause)
	nameCauses(v, batch)
	for i := range batch {
		batch[i].view = v.Sequence()
	}
	decisions := u.ask(v, batch, now)
	cost, err := time.Since(began), v.Err()
	done()
	if err != nil {
		return cost, fmt.Errorf("reading what the decision needs: %w", err)
	}
	u.decided(cost)
	return cost, u.performAll(ctx, batch, decisions, began)
}

// nameCauses lets the newest event about a key stand for a cause that cannot be named.
func nameCauses(v *View, batch []work) {
	for i := range batch {
		if w := &batch[i]; w.why.Sequence == 0 {
			w.why.Cause = events.CauseOf(events.Event{Sequence: v.Cursor(w.key).Revision})
		}
	}
}

// ask calls the decider; a panic of one decision must not end the control plane.
func (u *unit) ask(v *View, batch []work, now time.Time) (out []Decision) {
	defer func() {
		if p := recover(); p != nil {
			v.Fail(fmt.Errorf("decider %s panicked on %s: %v", u.spec.Name, batch[0].key, p))
		}
	}()
	if b, ok := u.Decider.(BatchDecider); ok {
		items := make([]Item, len(batch))
		for i, w := range batch {
			items[i] = Item{w.key, w.why.Cause}
		}
		return b.DecideAll(v, items, now)
	}
	for _, w := range batch {
		out = append(out, u.Decider.Decide(v.With(w.why.Cause), w.key, now))
	}
	return out
}

// catchUp waits until the projections hold this decider's own last writes for the keys, those among them that
// it does not know to have happened.
func (u *unit) catchUp(ctx context.Context, batch []work) error {
	if err := u.resolveDoubts(ctx, batch); err != nil {
		return err
	}
	if err := u.catchUpWith(ctx, u.Store, u.wrote, batch); err != nil {
		return err
	}
	if u.Volatile == nil {
		return nil
	}
	return u.catchUpWith(ctx, u.Volatile, u.wroteVolatile, batch)
}

// resolveDoubts takes all that is on the log for the decider's own where it does not know what it wrote.
func (u *unit) resolveDoubts(ctx context.Context, batch []work) error {
	u.mu.Lock()
	doubtful := u.End != nil && slices.ContainsFunc(batch, func(w work) bool { return u.doubts[u.slot(w.key)] })
	u.mu.Unlock()
	if !doubtful {
		return nil
	}
	end, err := u.End(ctx)
	if err != nil {
		return fmt.Errorf("asking the log for its end, after a write of unknown outcome: %w", err)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, w := range batch {
		if at := u.slot(w.key); u.doubts[at] {
			delete(u.doubts, at)
			u.wrote[at] = max(u.wrote[at], end)
		}
	}
	return nil
}

func (u *unit) catchUpWith(ctx context.Context, s Store, wrote map[events.Key]events.Sequence, batch []work) error {
	var seq events.Sequence
	u.mu.Lock()
	for _, w := range batch {
		seq = max(seq, wrote[u.slot(w.key)])
	}
	u.mu.Unlock()
	if seq == 0 {
		return nil
	}
	if err := s.WaitFor(ctx, seq); err != nil {
		return fmt.Errorf("waiting for own write %d: %w", seq, err)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, w := range batch {
		if at := u.slot(w.key); wrote[at] <= seq {
			delete(wrote, at)
		}
	}
	return nil
}

func (u *unit) slot(key events.Key) events.Key {
	if u.spec.Serial {
		return events.Key{}
	}
	return key
}

// noteWrite remembers an effect that was performed for a key.
func (u *unit) noteWrite(key events.Key, e Effect, seq events.Sequence) {
	wrote := u.wrote
	if Leases.Is(e.Key) {
		wrote = u.wroteVolatile
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	at := u.slot(key)
	wrote[at] = max(wrote[at], seq)
}

// settle schedules what a decision asks for after its effects.
func (u *unit) settle(ctx context.Context, w work, d Decision, err error) {
	if err != nil {
		if errors.Is(err, events.ErrUnavailable) || !(errors.Is(err, events.ErrConflict) || errors.Is(err, events.ErrInvalid)) {
			u.mu.Lock()
			u.doubts[u.slot(w.key)] = true
			u.mu.Unlock()
		}
		u.retry(ctx, w, err)
		return
	}
	u.queue.succeeded(w.key)
	if d.Again > 0 {
		u.queue.addAfter(w.key, w.why, d.Again)
	}
	if d.Park {
		u.queue.park(w)
	}
}

func (u *unit) retry(ctx context.Context, w work, err error) {
	if ctx.Err() != nil {
		return
	}
	wait := u.queue.retry(w.key, w.why)
	u.retried()
	level := slog.LevelWarn
	if errors.Is(err, events.ErrConflict) {
		level = slog.LevelDebug // somebody was faster: the ordinary course of things
	}
	u.log.LogAttrs(ctx, level, "will decide again", w.attrs(), slog.Duration("after", wait), slog.Any(events.LogError, err))
}
