package jetstream_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/events/jetstream"
)

// pod is a valid event about pod default/name.
func pod(class events.Class, name string, n int) events.Event {
	return events.Event{Subject: events.Subject{Class: class, Key: events.Key{Resource: "pods", Namespace: "default", Name: name}},
		Type: "io.orlog.pod.updated", Source: "test", Actor: "test", UID: "u-" + name, Time: time.Unix(1, 0).UTC(),
		Object: fmt.Appendf(nil, `{"n":%d}`, n)}
}

func unguarded(name string, n int) events.Entry {
	return events.Entry{Event: pod(events.Desired, name, n)}
}

func guarded(name string, n int, last events.Sequence) events.Entry {
	e := pod(events.Desired, name, n)
	return events.Entry{Event: e, Expect: events.ExpectClass(e.Subject, last)}
}

func mustAppend(t testing.TB, l events.Log, entries ...events.Entry) []events.Sequence {
	t.Helper()
	seqs, err := l.Append(t.Context(), entries...)
	if err != nil {
		t.Fatal(err)
	}
	return seqs
}

// readTo reads until sequence last, checking that nothing is missing or comes twice.
func readTo(t testing.TB, sub events.Subscription, from, last events.Sequence) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for next := from; next <= last; {
		batch, err := sub.Next(ctx)
		if err != nil {
			t.Fatalf("next, at %d: %v", next, err)
		}
		for _, e := range batch {
			if e.Sequence != next {
				t.Fatalf("got %d, want %d", e.Sequence, next)
			}
			next++
		}
	}
}

// TestAppendsWhileConnectionsBreak: every append that is acknowledged is there once, every conflict is
// another writer's doing, and a reader behind the same broken connection misses nothing.
func TestAppendsWhileConnectionsBreak(t *testing.T) {
	server := start(t)
	p := startProxy(t, server.URL())
	l := open(t, connect(t, jetstream.Options{URL: p.url(), Patience: time.Minute}))
	sub, err := l.Subscribe(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	const writers, appends = 24, 30
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			var last events.Sequence
			name := fmt.Sprint("w", w)
			for i := range appends {
				if w == 0 && i%10 == 5 {
					p.cut()
				}
				entries := []events.Entry{guarded(name, i, last)}
				if w%2 == 1 {
					entries = append(entries, events.Entry{Event: pod(events.Observed, name, i)})
				}
				seqs, err := l.Append(t.Context(), entries...)
				if err != nil {
					t.Errorf("%s append %d: %v", name, i, err)
					return
				}
				last = seqs[0]
			}
		})
	}
	wg.Wait()
	last, err := l.Last(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if want := events.Sequence(writers/2*appends + writers/2*appends*2); last != want {
		t.Errorf("the log ends at %d, want %d: an event is missing or there twice", last, want)
	}
	readTo(t, sub, 1, last)
}

// TestServerRestart: the server goes away and comes back on the same port; writers and readers go on.
func TestServerRestart(t *testing.T) {
	dir := t.TempDir()
	first, err := jetstream.StartServer(jetstream.ServerOptions{Dir: dir, Port: -1})
	if err != nil {
		t.Fatal(err)
	}
	p := startProxy(t, first.URL())
	c := connect(t, jetstream.Options{URL: p.url(), Patience: time.Minute})
	l := open(t, c)
	all, err := l.Subscribe(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	some, err := l.Subscribe(t.Context(), 1, "orlog.desired.core.pods.default.b.*")
	if err != nil {
		t.Fatal(err)
	}
	mustAppend(t, l, unguarded("a", 1), unguarded("a", 2))
	readTo(t, all, 1, 2)
	first.Shutdown()
	done := make(chan error, 1)
	go func() {
		_, err := l.Append(t.Context(), guarded("b", 3, 0))
		done <- err
	}()
	second, err := jetstream.StartServer(jetstream.ServerOptions{Dir: dir, Port: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer second.Shutdown()
	p.retarget(t, second.URL())
	if err := <-done; err != nil {
		t.Fatalf("append across a restart: %v", err)
	}
	readTo(t, all, 3, 3)
	readTo(t, some, 3, 3)
}

func TestStartupGuards(t *testing.T) {
	server := start(t)
	ctx := t.Context()
	strict := connect(t, jetstream.Options{URL: server.URL(), MustExist: true})
	if _, err := strict.Log(ctx); !errors.Is(err, events.ErrGap) || !strings.Contains(err.Error(), "backup") {
		t.Fatalf("a missing stream: %v", err)
	}
	l := open(t, connect(t, jetstream.Options{URL: server.URL()}))
	mustAppend(t, l, unguarded("a", 1), unguarded("a", 2))
	if _, err := strict.Log(ctx); err != nil {
		t.Fatalf("an existing stream: %v", err)
	}
	if _, err := connect(t, jetstream.Options{URL: server.URL(), MinSequence: 2}).Log(ctx); err != nil {
		t.Fatalf("a log that reaches far enough: %v", err)
	}
	if _, err := connect(t, jetstream.Options{URL: server.URL(), MinSequence: 3}).Log(ctx); !errors.Is(err, events.ErrGap) || !strings.Contains(err.Error(), "backup") {
		t.Fatalf("a log cut short: %v", err)
	}
	if _, err := strict.Volatile(ctx); err != nil {
		t.Fatalf("the volatile log is always created: %v", err)
	}
}

func TestVolatile(t *testing.T) {
	c := connect(t, jetstream.Options{URL: start(t).URL()})
	durable, ctx := open(t, c), t.Context()
	l, err := c.Volatile(ctx)
	if err != nil {
		t.Fatal(err)
	}
	all, err := l.Subscribe(ctx, 1)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		mustAppend(t, l, guarded("lease", i, events.Sequence(i)))
	}
	mustAppend(t, l, guarded("other", 0, 0))
	for last := events.Sequence(0); last < 6; { // an event may be overwritten before it was sent
		batch, err := all.Next(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range batch {
			if e.Sequence <= last {
				t.Fatalf("got %d after %d", e.Sequence, last)
			}
			last = e.Sequence
		}
	}
	if _, err := l.Append(ctx, guarded("lease", 9, 4)); !errors.Is(err, events.ErrConflict) {
		t.Errorf("guard in the volatile log: %v", err)
	}
	if _, err := l.Get(ctx, 1); !errors.Is(err, events.ErrNotFound) {
		t.Errorf("an overwritten event: %v", err)
	}
	e, err := l.LastOn(ctx, pod(events.Desired, "lease", 0).Subject.AnyNode())
	if err != nil || e.Sequence != 5 || e.Subject != pod(events.Desired, "lease", 0).Subject {
		t.Errorf("last on: %+v, %v", e, err)
	}
	late, err := l.Subscribe(ctx, 1) // gaps are normal here
	if err != nil {
		t.Fatal(err)
	}
	readTo(t, late, 5, 6)
	filtered, err := l.Subscribe(ctx, 1, "orlog.desired.core.pods.default.other.*")
	if err != nil {
		t.Fatal(err)
	}
	readTo(t, filtered, 6, 6)
	if last, err := durable.Last(ctx); err != nil || last != 0 {
		t.Errorf("the durable log holds %d, %v: volatile events leaked", last, err)
	}
}

// TestOverlappingPatterns: the server refuses overlapping filters; the log does not.
func TestOverlappingPatterns(t *testing.T) {
	l := open(t, connect(t, jetstream.Options{URL: start(t).URL()}))
	mustAppend(t, l, unguarded("a", 1), unguarded("b", 2), events.Entry{Event: pod(events.Observed, "c", 3)})
	sub, err := l.Subscribe(t.Context(), 1, "orlog.desired.core.pods.*.a.*", "orlog.*.core.pods.default.*.*", "orlog.desired.core.pods.default.a.-")
	if err != nil {
		t.Fatal(err)
	}
	readTo(t, sub, 1, 3)
	sub, err = l.Subscribe(t.Context(), 1, "orlog.desired.core.pods.*.b.*", "orlog.*.core.pods.default.b.*", "orlog.observed.>")
	if err != nil {
		t.Fatal(err)
	}
	readTo(t, sub, 2, 3)
}
