package logtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/orlog-io/orlog/events"
)

// concurrentOrder: many writers, readers from the start and from the middle; all see the same gapless order,
// each writer's events in the order in which it wrote them, and batches unbroken.
func concurrentOrder(t *testing.T, f *fixture) {
	const writers, appends = 8, 25
	const total = writers * (appends + appends/5*2) // every fifth append is a batch of three
	live := f.subscribe(1)
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range appends {
				name := fmt.Sprint("w", w)
				entries := []events.Entry{{Event: desired(name, i)}}
				if i%5 == 0 {
					entries = append(entries, events.Entry{Event: observed(name, i)}, events.Entry{Event: desired(name, i)})
				}
				if _, err := f.log.Append(f.ctx, entries...); err != nil {
					t.Errorf("writer %d append %d: %v", w, i, err)
					return
				}
			}
		})
	}
	got := f.read(live, total)
	wg.Wait()
	progress := map[string]int{}
	for i, e := range got {
		if e.Sequence != events.Sequence(i+1) {
			t.Fatalf("event %d of the subscription has sequence %d", i+1, e.Sequence)
		}
		var body struct{ Body int }
		if err := json.Unmarshal(e.Object, &body); err != nil {
			t.Fatal(err)
		}
		if name := e.Subject.Key.Name; body.Body < progress[name] {
			t.Fatalf("event %d: %s wrote %d after %d", e.Sequence, name, body.Body, progress[name])
		} else {
			progress[name] = body.Body
		}
		if e.Subject.Class == events.Observed && (got[i-1].Subject.Key != e.Subject.Key || got[i+1].Subject.Key != e.Subject.Key) {
			t.Fatalf("the batch around %d is broken up", e.Sequence)
		}
	}
	for i, e := range f.read(f.subscribe(total/2+1), total/2) {
		if want := got[total/2+i]; e.Sequence != want.Sequence || e.ID != want.ID {
			t.Fatalf("a later reader sees %s, want %s", describe(e), describe(want))
		}
	}
}

func subscribeFrom(t *testing.T, f *fixture) {
	for i := range 10 {
		f.append(desired("a", i))
	}
	f.sequences(f.read(f.subscribe(0), 10), 1, 2, 3, 4, 5, 6, 7, 8, 9, 10)
	f.sequences(f.read(f.subscribe(1), 10), 1, 2, 3, 4, 5, 6, 7, 8, 9, 10)
	f.sequences(f.read(f.subscribe(8), 3), 8, 9, 10)
	next := f.subscribe(11)
	f.append(desired("a", 11))
	f.sequences(f.read(next, 1), 11)
}

func subscribePatterns(t *testing.T, f *fixture) {
	f.append(desired("a", 1), observed("a", 2), desired("b", 3), pod(events.Desired, "c", "n1", 4), pod(events.Observed, "c", "n1", 5))
	f.sequences(f.read(f.subscribe(1, "orlog.observed.>"), 2), 2, 5)
	f.sequences(f.read(f.subscribe(3, "orlog.observed.>"), 1), 5)
	f.sequences(f.read(f.subscribe(1, "orlog.desired.core.pods.*.*.n1"), 1), 4)
	// Two patterns, still in order and each event once.
	sub := f.subscribe(1, "orlog.desired.core.pods.default.a.*", "orlog.observed.>")
	f.sequences(f.read(sub, 3), 1, 2, 5)
	f.append(desired("b", 6), desired("z", 7))
	f.quiet(sub, observed("b", 8))
}

func subscribeAhead(t *testing.T, f *fixture) {
	f.append(desired("a", 1))
	sub := f.subscribe(4)
	f.append(desired("a", 2), desired("a", 3))
	f.append(desired("a", 4))
	f.sequences(f.read(sub, 1), 4)
}

func nextContext(t *testing.T, f *fixture) {
	sub := f.subscribe(1)
	ctx, cancel := context.WithCancel(f.ctx)
	done := make(chan error, 1)
	go func() {
		_, err := sub.Next(ctx)
		done <- err
	}()
	cancel()
	select {
	case err := <-done:
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("next with a cancelled context: %v", err)
		}
	case <-time.After(patience):
		t.Fatal("next does not return when its context ends")
	}
	// The subscription lives on, having lost nothing.
	f.append(desired("a", 1))
	f.sequences(f.read(sub, 1), 1)
}

func closeSubscription(t *testing.T, f *fixture) {
	sub := f.subscribe(1)
	done := make(chan error, 1)
	go func() {
		_, err := sub.Next(f.ctx)
		done <- err
	}()
	if err := sub.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
	f.closed(done, "next")
	if err := sub.Close(); err != nil {
		t.Errorf("closing twice: %v", err)
	}
	if _, err := sub.Next(f.ctx); !errors.Is(err, events.ErrClosed) {
		t.Errorf("next after close: %v, want ErrClosed", err)
	}
	f.append(desired("a", 1)) // the log itself is open
}

func closeLog(t *testing.T, f *fixture) {
	f.append(desired("a", 1))
	sub := f.subscribe(2)
	done := make(chan error, 1)
	go func() {
		_, err := sub.Next(f.ctx)
		done <- err
	}()
	if err := f.log.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
	f.closed(done, "next")
	_, appendErr := f.log.Append(f.ctx, events.Entry{Event: desired("a", 2)})
	_, getErr := f.log.Get(f.ctx, 1)
	_, lastErr := f.log.Last(f.ctx)
	_, lastOnErr := f.log.LastOn(f.ctx, "orlog.>")
	_, subErr := f.log.Subscribe(f.ctx, 1)
	for call, err := range map[string]error{"append": appendErr, "get": getErr, "last": lastErr, "last on": lastOnErr, "subscribe": subErr} {
		if !errors.Is(err, events.ErrClosed) {
			t.Errorf("%s after close: %v, want ErrClosed", call, err)
		}
	}
	if err := f.log.Close(); err != nil {
		t.Errorf("closing twice: %v", err)
	}
}

func (f *fixture) closed(done <-chan error, call string) {
	f.Helper()
	select {
	case err := <-done:
		if !errors.Is(err, events.ErrClosed) {
			f.Fatalf("%s: %v, want ErrClosed", call, err)
		}
	case <-time.After(patience):
		f.Fatalf("%s does not return after close", call)
	}
}
