package loop_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/events/memlog"
	"github.com/orlog-io/orlog/services/loop"
)

func report(name string, last events.Sequence) loop.Effect {
	subject := events.Subject{Class: events.Observed, Key: loop.Pods.Key("default", name)}
	return loop.Effect{Verb: loop.AppendEvent, Key: subject.Key, Reason: "because", Entry: &events.Entry{
		Event:  events.Event{Subject: subject, Type: "io.orlog.pod.reported", UID: "u", Object: json.RawMessage(`{}`)},
		Expect: events.ExpectObject(subject, last)}}
}

// TestABatchIsOneWriteOrEachItsOwn: where no guard fails the batch is appended as one; where one does, the
// others are appended all the same, and a second try finds the first's events in its way.
func TestABatchIsOneWriteOrEachItsOwn(t *testing.T) {
	log := memlog.New()
	defer log.Close()
	a := &loop.Append{Log: log, Source: "test", Actor: "tester", Now: func() time.Time { return time.Unix(1, 0) }}
	causes := []events.Cause{{Sequence: 7, Correlation: 3}, {Sequence: 8, Correlation: 8}}
	show := func(rs []loop.Result) (s string) {
		for _, r := range rs {
			s += fmt.Sprintf("%d %t ", r.Sequence, errors.Is(r.Err, events.ErrConflict))
		}
		return s
	}
	if got := show(a.PerformAll(t.Context(), []loop.Effect{report("a", 0), report("b", 0)}, causes)); got != "1 false 2 false " {
		t.Errorf("both new: %s", got)
	}
	if got := show(a.PerformAll(t.Context(), []loop.Effect{report("a", 0), report("c", 0)}, causes)); got != "0 true 3 false " {
		t.Errorf("one too late: %s", got)
	}
	e, err := log.Get(context.Background(), 2)
	if err != nil || e.Cause != 8 || e.Correlation != 8 || e.Reason != "because" || e.Actor != "tester" || e.Source != "test" || !e.Time.Equal(time.Unix(1, 0)) {
		t.Errorf("event %+v, %v", e, err)
	}
}

// TestABatchOfUnknownOutcomeIsNotSaidTwice: each event is on the log once, and the caller does not know.
func TestABatchOfUnknownOutcomeIsNotSaidTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := memlog.New()
		defer log.Close()
		log.Inject(func([]events.Entry) memlog.Fault { return memlog.Fault{After: errors.New("connection lost")} })
		a := &loop.Append{Log: log, Source: "test", Actor: "tester"}
		for _, r := range a.PerformAll(t.Context(), []loop.Effect{report("a", 0), report("b", 0)}, make([]events.Cause, 2)) {
			if !errors.Is(r.Err, events.ErrUnavailable) {
				t.Errorf("outcome %d %v, want unknown", r.Sequence, r.Err)
			}
		}
		if last, err := log.Last(t.Context()); last != 2 || err != nil {
			t.Errorf("the log holds %d events, %v", last, err)
		}
	})
}
