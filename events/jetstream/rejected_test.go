package jetstream_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/orlog-io/orlog/events"
)

// TestNodeCannotHaltReaders: whatever a node puts on its own subjects, readers go on, all see the same, and no
// state changes. What a node really says about the same object still counts.
func TestNodeCannotHaltReaders(t *testing.T) {
	g := startGuarded(t)
	good := observation(thisNode, "web", 1)
	good.Object, good.ID = []byte(`{"metadata":{"uid":"u-web"},"status":{"n":1}}`), "first"
	bound := unguarded("web", 0)
	bound.Event.Subject.Node = thisNode
	mustAppend(t, g.log, bound, events.Entry{Event: good})
	js, err := g.raw(t, thisNode).JetStream()
	if err != nil {
		t.Fatal(err)
	}
	header := func(change func(nats.Header)) nats.Header {
		w, err := events.Encode(good)
		if err != nil {
			t.Fatal(err)
		}
		h := nats.Header{}
		for name, value := range w.Header {
			h[name] = []string{value}
		}
		if change != nil {
			change(h)
		}
		return h
	}
	bad := map[string]*nats.Msg{
		"nothing at all":         {},
		"no headers":             {Data: []byte(`{"object":{}}`)},
		"no JSON":                {Header: header(nil), Data: []byte("\x00\xff{")},
		"no time":                {Header: header(func(h nats.Header) { delete(h, "ce-time") }), Data: []byte(`{"object":{}}`)},
		"no type":                {Header: header(func(h nats.Header) { delete(h, "ce-type") }), Data: []byte(`{"object":{}}`)},
		"a broken percent code":  {Header: header(func(h nats.Header) { h["ce-actor"] = []string{"%zz"} }), Data: []byte(`{"object":{}}`)},
		"a cause that is none":   {Header: header(func(h nats.Header) { h["ce-cause"] = []string{"-1"} }), Data: []byte(`{"object":{}}`)},
		"an object that is none": {Header: header(nil), Data: []byte(`{"object":[1]}`)},
		"changes that are none":  {Header: header(nil), Data: []byte(`{"object":{"status":{}},"changes":[{"op":7}]}`)},
		"a year that is none":    {Header: header(func(h nats.Header) { h["ce-time"] = []string{"9999-12-31T23:59:59-23:00"} }), Data: []byte(`{"object":{}}`)},
		"a reason without end":   {Header: header(func(h nats.Header) { h["ce-reason"] = []string{strings.Repeat("x", events.MaxHeaderBytes+64)} }), Data: []byte(`{"object":{}}`)},
		"an actor without end":   {Header: header(func(h nats.Header) { h["ce-actor"] = []string{strings.Repeat("%zz", events.MaxHeaderBytes/4)} }), Data: []byte(`{"object":{}}`)},
		"an object without end":  {Header: header(nil), Data: []byte(`{"object":{"status":{"x":"` + strings.Repeat("<", events.MaxEventBytes/4) + `"}}}`)},
		"no id":                  {Header: header(func(h nats.Header) { delete(h, "ce-id") }), Data: []byte(`{"object":{"status":{}}}`)},
		"a foreign subject":      {Subject: "orlog.observed.core.pods.default.%zz." + events.NodeToken(thisNode), Header: header(nil), Data: []byte(`{"object":{"status":{}}}`)},
	}
	for name, m := range bad {
		if m.Subject == "" {
			m.Subject = good.Subject.String()
		}
		if _, err := js.PublishMsg(m); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	n := events.Sequence(len(bad))
	// A report after all that, guarded by the newest on the subject, as a node's is.
	last, err := g.log.LastOn(t.Context(), good.Subject.AnyNode())
	if err != nil {
		t.Fatal(err)
	}
	good.Object, good.ID = []byte(`{"metadata":{"uid":"u-web"},"status":{"n":2}}`), "second"
	node := open(t, g.as(t, thisNode))
	if _, err := node.Append(t.Context(), events.Entry{Event: good, Expect: events.ExpectClass(good.Subject, last.Sequence)}); err != nil {
		t.Fatal(err)
	}

	var first []events.Event
	for reader, log := range map[string]events.Log{"control plane": g.log, "node": node} {
		var state events.State
		all := readEvents(t, log, 3+n)
		for i, e := range all {
			var changed bool
			if e.Subject.Key == good.Subject.Key {
				state, changed = events.Fold(state, e)
			}
			at := events.Sequence(i + 1)
			is := at > 2 && at < 3+n
			if e.Rejected() != is || is && changed || e.Sequence != at {
				t.Fatalf("%s: event %d: rejected %v, changed %v: %+v", reader, at, e.Rejected(), changed, e)
			}
			if is && (!strings.HasPrefix(e.Reason, "no event: ") || e.Actor != "system:node:"+thisNode && e.Actor != "unknown") {
				t.Errorf("%s: event %d says %q, from %q", reader, at, e.Reason, e.Actor)
			}
			if is {
				got, err := log.Get(t.Context(), at)
				if err != nil || string(got.Object) != string(e.Object) || got.ID != e.ID {
					t.Errorf("%s: event %d read alone: %+v, %v", reader, at, got, err)
				}
				if err := e.Validate(); err != nil {
					t.Errorf("event %d: %v", at, err)
				}
				if _, err := events.Encode(e); err != nil { // as the notary does
					t.Errorf("event %d: %v", at, err)
				}
			}
		}
		if want := `{"n":0,"status":{"n":2}}`; string(state.Object) != want || state.Observed != 3+n {
			t.Errorf("%s: state %s, observed %d; want %s", reader, state.Object, state.Observed, want)
		}
		if first == nil {
			first = all
		}
		for i := range all {
			if all[i].ID != first[i].ID || string(all[i].Object) != string(first[i].Object) || all[i].Reason != first[i].Reason {
				t.Errorf("two readers read event %d differently:\n%+v\n%+v", i+1, all[i], first[i])
			}
		}
	}
}

// readEvents reads the first n events.
func readEvents(t *testing.T, log events.Log, n events.Sequence) []events.Event {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	sub, err := log.Subscribe(ctx, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	var all []events.Event
	for events.Sequence(len(all)) < n {
		batch, err := sub.Next(ctx)
		if err != nil {
			t.Fatalf("after %d: %v", len(all), err)
		}
		all = append(all, batch...)
	}
	return all
}
