package loop_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/services/loop"
	"github.com/orlog-io/orlog/services/loop/looptest"
)

// copier keeps a ConfigMap "copy-<name>" for every ConfigMap that has data, and remembers what it saw.
type copier struct {
	mu    sync.Mutex
	seen  []string
	again time.Duration
}

func (c *copier) Spec() loop.Spec {
	return loop.Spec{Name: "copier", Workers: 2,
		Inputs: []loop.Input{{Resource: "configmaps", Keys: func(_ *loop.View, ch loop.Change) []events.Key {
			if len(ch.Next.Key.Name) > 5 {
				return nil // a copy
			}
			return []events.Key{ch.Next.Key}
		}}},
		Outputs: []loop.Output{{Resource: "configmaps"}},
	}
}

func (c *copier) Decide(v *loop.View, key events.Key, now time.Time) (d loop.Decision) {
	m := loop.ConfigMaps.At(v, key)
	if m == nil {
		return d
	}
	have := loop.ConfigMaps.Get(v, key.Namespace, "copy-"+key.Name)
	c.mu.Lock()
	c.seen = append(c.seen, fmt.Sprintf("%s cause=%d copied=%t", key.Name, v.Cause.Sequence, have != nil))
	c.mu.Unlock()
	d.Again = c.again
	if have == nil {
		made := &corev1.ConfigMap{Data: m.Data}
		made.Namespace, made.Name = key.Namespace, "copy-"+key.Name
		d.Do(loop.ConfigMaps.Create(made))
	}
	return d
}

func (c *copier) saw() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]string(nil), c.seen...)
}

// performer fails as often as it is told before it passes effects on, and records when it was called.
type performer struct {
	next  loop.Performer
	mu    sync.Mutex
	fail  []error
	times []time.Time
}

func (p *performer) Perform(ctx context.Context, e loop.Effect, why events.Cause) (events.Sequence, error) {
	p.mu.Lock()
	p.times = append(p.times, time.Now())
	if len(p.fail) > 0 {
		err := p.fail[0]
		p.fail = p.fail[1:]
		p.mu.Unlock()
		return 0, err
	}
	p.mu.Unlock()
	return p.next.Perform(ctx, e, why)
}

func start(t *testing.T, w *looptest.World, d loop.Decider, p loop.Performer) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		done <- loop.Run(ctx, loop.Options{Store: loop.FromProjection(w.Store), Log: slog.New(slog.DiscardHandler)}, loop.Bound{Decider: d, Performer: p})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("the loop ended with %v", err)
		}
	})
	synctest.Wait() // it follows the projection from here on
}

func key(name string) events.Key { return loop.ConfigMaps.Key("default", name) }

func put(w *looptest.World, name, value string) {
	w.Put(key(name), map[string]any{"data": map[string]string{"k": value}})
}

func TestDecidesOnceForManyChangesAndNamesTheCause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := looptest.NewWorld(t)
		put(w, "a", "1")
		c := &copier{}
		start(t, w, c, w)
		synctest.Wait()
		put(w, "b", "1")
		synctest.Wait()
		want := []string{"a cause=1 copied=false", "b cause=3 copied=false"}
		if got := c.saw(); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("decided %v, want %v", got, want)
		}
		if loop.ConfigMaps.Get(w.View(), "default", "copy-b") == nil {
			t.Error("nothing was written")
		}
	})
}

func TestConflictsAreDecidedAgainEverMoreSlowly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := looptest.NewWorld(t)
		p := &performer{next: w, fail: []error{events.ErrConflict, errors.New("forbidden"), events.ErrUnavailable}}
		start(t, w, &copier{}, p)
		put(w, "a", "1")
		time.Sleep(time.Second)
		if loop.ConfigMaps.Get(w.View(), "default", "copy-a") == nil {
			t.Error("it gave up")
		}
		var waits []time.Duration
		for i := range p.times[1:] {
			waits = append(waits, p.times[i+1].Sub(p.times[i]))
		}
		if fmt.Sprint(waits) != "[5ms 10ms 20ms]" {
			t.Errorf("backoff %v", waits)
		}
	})
}

// lagging is a store whose views and waiters lag behind until it is let go.
type lagging struct {
	loop.Store
	old  func() loop.Reader
	gate chan struct{}
}

func (l lagging) Now() loop.Reader {
	select {
	case <-l.gate:
		return l.Store.Now()
	default:
		return l.old()
	}
}

func (l lagging) WaitFor(ctx context.Context, seq events.Sequence) error {
	select {
	case <-l.gate:
	case <-ctx.Done():
		return ctx.Err()
	}
	return l.Store.WaitFor(ctx, seq)
}

func TestWaitsForItsOwnWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := looptest.NewWorld(t)
		put(w, "a", "1")
		first := w.Store.Now()
		old := loop.ReaderOf(first)
		t.Cleanup(first.Close)
		l := lagging{Store: loop.FromProjection(w.Store), old: func() loop.Reader { return unclosed{old} }, gate: make(chan struct{})}
		c := &copier{again: time.Millisecond}
		p := &performer{next: w}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		done := make(chan error)
		go func() {
			done <- loop.Run(ctx, loop.Options{Store: l, Log: slog.New(slog.DiscardHandler)}, loop.Bound{Decider: c, Performer: p})
		}()
		time.Sleep(time.Second)
		if n := len(c.saw()); n != 1 {
			t.Errorf("decided %d times on a view without its own write", n)
		}
		close(l.gate)
		time.Sleep(10 * time.Millisecond)
		if got := c.saw(); len(got) < 2 || got[1] != "a cause=1 copied=true" {
			t.Errorf("then decided %v", got)
		}
		if len(p.times) != 1 {
			t.Errorf("wrote %d times", len(p.times))
		}
		cancel()
		<-done
	})
}

// lossy performs effects and loses the answer to the first.
type lossy struct {
	performer
	lost bool
}

func (p *lossy) Perform(ctx context.Context, e loop.Effect, why events.Cause) (events.Sequence, error) {
	seq, err := p.performer.Perform(ctx, e, why)
	if err == nil && !p.lost {
		p.lost = true
		return 0, events.ErrUnavailable
	}
	return seq, err
}

// TestTakesAnUnknownOutcomeForAWrite: what may have happened is waited for like what has.
func TestTakesAnUnknownOutcomeForAWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := looptest.NewWorld(t)
		put(w, "a", "1")
		first := w.Store.Now()
		old := loop.ReaderOf(first)
		t.Cleanup(first.Close)
		l := lagging{Store: loop.FromProjection(w.Store), old: func() loop.Reader { return unclosed{old} }, gate: make(chan struct{})}
		c, p := &copier{}, &lossy{performer: performer{next: w}}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		done := make(chan error)
		go func() {
			done <- loop.Run(ctx, loop.Options{Store: l, End: w.Log.Last, Log: slog.New(slog.DiscardHandler)}, loop.Bound{Decider: c, Performer: p})
		}()
		time.Sleep(time.Minute)
		if n := len(c.saw()); n != 1 {
			t.Errorf("decided %d times on a view without what it may have written", n)
		}
		close(l.gate)
		time.Sleep(time.Minute)
		if got := c.saw(); len(got) != 2 || got[1] != "a cause=1 copied=true" {
			t.Errorf("then decided %v", got)
		}
		cancel()
		<-done
	})
}

type unclosed struct{ loop.Reader }

func (unclosed) Close() {}

// parker parks every key and counts decisions.
type parker struct{ copier }

func (p *parker) Spec() loop.Spec {
	s := p.copier.Spec()
	s.Inputs = append(s.Inputs, loop.Input{Resource: "nodes", Wakes: func(*loop.View, loop.Change) bool { return true }})
	return s
}

func (p *parker) Decide(v *loop.View, key events.Key, now time.Time) (d loop.Decision) {
	p.mu.Lock()
	p.seen = append(p.seen, key.Name)
	p.mu.Unlock()
	d.Park = true
	return d
}

func TestParkedKeysWakeWithTheWorld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := looptest.NewWorld(t)
		p := &parker{}
		start(t, w, p, w)
		put(w, "a", "1")
		put(w, "b", "1")
		time.Sleep(time.Hour)
		if n := len(p.saw()); n != 2 {
			t.Fatalf("decided %v without a reason", p.saw())
		}
		for i := range 10 {
			w.Put(loop.Nodes.Key("", fmt.Sprint(i)), map[string]any{})
			synctest.Wait()
		}
		time.Sleep(time.Hour)
		if n := len(p.saw()); n != 6 { // at once, and once more for all that followed
			t.Errorf("decided %v", p.saw())
		}
	})
}

// TestWakesWhatIsAboutToPark changes the world while a decision is under way that has not seen the change.
func TestWakesWhatIsAboutToPark(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := looptest.NewWorld(t)
		p := &slowParker{}
		start(t, w, p, w)
		put(w, "a", "1")
		time.Sleep(time.Second) // the decision takes a minute
		w.Put(loop.Nodes.Key("", "n"), map[string]any{})
		time.Sleep(time.Hour)
		if n := len(p.saw()); n != 2 {
			t.Errorf("decided %v: the change that came in between was lost", p.saw())
		}
	})
}

// slowParker takes its time over its first decision.
type slowParker struct{ parker }

func (p *slowParker) Decide(v *loop.View, key events.Key, now time.Time) loop.Decision {
	if len(p.saw()) == 0 {
		defer time.Sleep(time.Minute)
	}
	return p.parker.Decide(v, key, now)
}

func TestRefusesTwoWritersOfOneOutput(t *testing.T) {
	w := looptest.NewWorld(t)
	err := loop.Run(t.Context(), loop.Options{Store: loop.FromProjection(w.Store)},
		loop.Bound{Decider: &copier{}, Performer: w}, loop.Bound{Decider: renamed{&copier{}}, Performer: w})
	if !errors.Is(err, events.ErrInvalid) {
		t.Errorf("got %v", err)
	}
}

type renamed struct{ *copier }

func (r renamed) Spec() loop.Spec {
	s := r.copier.Spec()
	s.Name = "other"
	return s
}

// undeclared writes what it did not declare; panicking panics. Neither may end the loop for others.
type undeclared struct{ copier }

func (u *undeclared) Decide(v *loop.View, key events.Key, now time.Time) (d loop.Decision) {
	if key.Name == "bad" {
		panic("no")
	}
	d = u.copier.Decide(v, key, now)
	if key.Name == "wrong" {
		d.Do(loop.Pods.Delete(&corev1.Pod{}))
	}
	return d
}

func TestOneBadKeyDoesNotStopTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := looptest.NewWorld(t)
		start(t, w, &undeclared{}, w)
		put(w, "bad", "1")
		put(w, "wrong", "1")
		put(w, "good", "1")
		synctest.Wait()
		v := w.View()
		if loop.ConfigMaps.Get(v, "default", "copy-good") == nil || loop.ConfigMaps.Get(v, "default", "copy-wrong") != nil {
			t.Error("want the good one to be copied, and nothing done of a decision that is not as declared")
		}
	})
}
