package logtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/orlog-io/orlog/events"
)

// patience is how long any single wait may take before the log counts as stuck.
const patience = 20 * time.Second

// Run runs the suite. open gives an empty log, which the suite closes.
func Run(t *testing.T, open func(t *testing.T) events.Log) {
	for _, c := range []struct {
		name string
		run  func(*testing.T, *fixture)
	}{
		{"append and get", appendAndGet},
		{"round trip keeps every field", roundTrip},
		{"an empty log", emptyLog},
		{"invalid events are refused", invalid},
		{"guard on a class", guardClass},
		{"guard on an object", guardObject},
		{"guard across nodes", guardAcrossNodes},
		{"guards in a batch", guardBatch},
		{"a batch is atomic", batchAtomic},
		{"a full batch", batchFull},
		{"large events", largeEvents},
		{"retry of one", retryOne},
		{"retry of one that was overtaken", retryOvertaken},
		{"retry of a batch", retryBatch},
		{"a conflict is not mistaken for a retry", conflictNotRetry},
		{"racing writers: one wins", race},
		{"order under concurrency", concurrentOrder},
		{"an append that was acknowledged is in Last", lastNeverBehind},
		{"last on a pattern", lastOn},
		{"subscribe from any place", subscribeFrom},
		{"subscribe with patterns", subscribePatterns},
		{"subscribe ahead of the log", subscribeAhead},
		{"next obeys its context", nextContext},
		{"closing a subscription", closeSubscription},
		{"closing the log", closeLog},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), patience*3)
			defer cancel()
			log := open(t)
			defer log.Close()
			c.run(t, &fixture{T: t, ctx: ctx, log: log})
		})
	}
}

// fixture is a log and the shorthands to write and read it.
type fixture struct {
	*testing.T
	ctx context.Context
	log events.Log
}

// pod is a valid event about pod default/name.
func pod(class events.Class, name, node string, body any) events.Event {
	obj, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": "uid-" + name}, "body": body})
	if err != nil {
		panic("logtest: marshalling a body: " + err.Error())
	}
	verb := events.Verb("updated")
	if class == events.Observed {
		verb = "reported"
	}
	return events.Event{
		Subject: events.Subject{Class: class, Key: events.Key{Resource: "pods", Namespace: "default", Name: name}, Node: node},
		Type:    events.TypeOf("Pod", verb), Source: "logtest", Actor: "system:logtest", UID: "uid-" + name,
		Time: time.Date(2026, 11, 20, 14, 5, 0, 123456789, time.UTC), Object: obj,
	}
}

func desired(name string, body any) events.Event  { return pod(events.Desired, name, "", body) }
func observed(name string, body any) events.Event { return pod(events.Observed, name, "", body) }

func withID(e events.Event, id string) events.Event {
	e.ID = id
	return e
}

// append appends unguarded events as one batch.
func (f *fixture) append(es ...events.Event) []events.Sequence {
	f.Helper()
	entries := make([]events.Entry, len(es))
	for i, e := range es {
		entries[i].Event = e
	}
	return f.must(entries...)
}

// must appends, which must succeed.
func (f *fixture) must(entries ...events.Entry) []events.Sequence {
	f.Helper()
	seqs, err := f.log.Append(f.ctx, entries...)
	if err != nil {
		f.Fatalf("append: %v", err)
	}
	if len(seqs) != len(entries) {
		f.Fatalf("append of %d events returned %d sequences", len(entries), len(seqs))
	}
	return seqs
}

// conflict appends, which must fail with a conflict whose fields are as given (actual < 0: may be anything)
// and leave the log as it is.
func (f *fixture) conflict(on string, expected events.Sequence, actual int64, entries ...events.Entry) {
	f.Helper()
	before := f.last()
	seqs, err := f.log.Append(f.ctx, entries...)
	if !errors.Is(err, events.ErrConflict) {
		f.Fatalf("append: got %v, %v; want a conflict", seqs, err)
	}
	var c *events.ConflictError
	if !errors.As(err, &c) {
		f.Fatalf("append: %v holds no ConflictError", err)
	}
	if c.On != on || c.Expected != expected || (actual >= 0 && c.Actual != events.Sequence(actual)) {
		f.Errorf("conflict: got %+v, want on %s expected %d actual %d", *c, on, expected, actual)
	}
	if after := f.last(); after != before {
		f.Errorf("a failed append moved the log from %d to %d", before, after)
	}
}

func (f *fixture) last() events.Sequence {
	f.Helper()
	seq, err := f.log.Last(f.ctx)
	if err != nil {
		f.Fatalf("last: %v", err)
	}
	return seq
}

func (f *fixture) get(seq events.Sequence) events.Event {
	f.Helper()
	e, err := f.log.Get(f.ctx, seq)
	if err != nil {
		f.Fatalf("get %d: %v", seq, err)
	}
	return e
}

func (f *fixture) subscribe(from events.Sequence, patterns ...string) events.Subscription {
	f.Helper()
	sub, err := f.log.Subscribe(f.ctx, from, patterns...)
	if err != nil {
		f.Fatalf("subscribe from %d %v: %v", from, patterns, err)
	}
	f.Cleanup(func() { sub.Close() })
	return sub
}

// read takes exactly n events from a subscription.
func (f *fixture) read(sub events.Subscription, n int) []events.Event {
	f.Helper()
	ctx, cancel := context.WithTimeout(f.ctx, patience)
	defer cancel()
	var got []events.Event
	for len(got) < n {
		batch, err := sub.Next(ctx)
		if err != nil {
			f.Fatalf("next, after %d of %d events: %v", len(got), n, err)
		}
		if len(batch) == 0 || len(batch) > events.MaxBatch {
			f.Fatalf("next returned %d events, want 1 to %d", len(batch), events.MaxBatch)
		}
		got = append(got, batch...)
	}
	if len(got) > n {
		f.Fatalf("subscription delivered %d events, want %d; one too many: %s", len(got), n, describe(got[n]))
	}
	return got
}

// quiet checks that nothing more arrives: a marker is appended that the subscription must deliver next.
func (f *fixture) quiet(sub events.Subscription, marker events.Event) {
	f.Helper()
	seq := f.append(marker)[0]
	if got := f.read(sub, 1)[0]; got.Sequence != seq {
		f.Fatalf("subscription delivered %s before the marker %d", describe(got), seq)
	}
}

func (f *fixture) sequences(es []events.Event, want ...events.Sequence) {
	f.Helper()
	var got []events.Sequence
	for _, e := range es {
		got = append(got, e.Sequence)
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		f.Fatalf("got sequences %v, want %v", got, want)
	}
}

func describe(e events.Event) string {
	return fmt.Sprintf("%d %s %s", e.Sequence, e.Subject, e.Object)
}
