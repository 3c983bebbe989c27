package outbox

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"reflect"
	"time"

	"github.com/orlog-io/orlog/events"
)

// Pauses while the log does not answer.
const (
	firstPause = 50 * time.Millisecond
	longPause  = 10 * time.Second
	oneAppend  = 15 * time.Second
)

// drain sends the reports about one object until none is left. It leaves the queue inactive.
func (b *Outbox) drain(ctx context.Context, key events.Key) error {
	pause := firstPause
	for {
		b.mu.Lock()
		q := b.queues[key]
		if len(q.reports) == 0 || ctx.Err() != nil {
			q.active = false
			if len(q.reports) == 0 && q.cursor == 0 {
				delete(b.queues, key)
			}
			b.mu.Unlock()
			return ctx.Err()
		}
		r := q.reports[0]
		wait := time.Until(r.due)
		if wait > 0 && len(q.reports) == 1 {
			b.hold(key, q, wait)
			b.mu.Unlock()
			return nil
		}
		q.sending = true
		b.mu.Unlock()

		done, err := b.send(ctx, key, r)
		if err := b.sent(key, r, done); err != nil {
			return err
		}
		switch {
		case done:
			pause = firstPause
		case errors.Is(err, events.ErrConflict):
			// The cursor was moved by send: try again at once, but never spin.
			b.count(func(s *Stats) { s.Conflicts++ })
			sleep(ctx, rand.N(5*time.Millisecond))
		default:
			b.count(func(s *Stats) { s.Retries++ })
			b.o.Logger.Warn("report waits for the log", r.attrs(), "pause", pause, events.LogError, err)
			sleep(ctx, pause/2+rand.N(pause/2))
			pause = min(2*pause, longPause)
		}
	}
}

// hold lets go of a queue whose only report may be replaced, until it is due. Callers hold the lock.
func (b *Outbox) hold(key events.Key, q *queue, wait time.Duration) {
	q.active = false
	time.AfterFunc(wait, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if q := b.queues[key]; q != nil && !q.active && len(q.reports) > 0 {
			b.wake(key, q)
		}
	})
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

func (b *Outbox) count(f func(*Stats)) {
	b.mu.Lock()
	f(&b.stats)
	b.mu.Unlock()
}

// sent ends the sending of a queue's first report; one that is done leaves the queue and the journal. What was put
// meanwhile stands behind it.
func (b *Outbox) sent(key events.Key, r Report, done bool) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	q := b.queues[key]
	q.sending = false
	if !done {
		return nil
	}
	q.reports = append([]Report(nil), q.reports[1:]...)
	return b.journal.strike(r.ID)
}

// Forget drops what is remembered about an object that is gone, so that memory stays bounded.
func (b *Outbox) Forget(key events.Key) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if q := b.queues[key]; q != nil && !q.active && len(q.reports) == 0 {
		delete(b.queues, key)
	}
}

// send appends one report. done: it needs no further try.
func (b *Outbox) send(ctx context.Context, key events.Key, r Report) (done bool, err error) {
	state, err := b.o.State(key)
	if err != nil {
		return false, fmt.Errorf("state of %s: %w", key, err)
	}
	if gone := !state.Exists() || state.UID != r.UID; gone && state.Revision != 0 && !r.Kept {
		b.count(func(s *Stats) { s.Superseded++ })
		return true, nil // a status of what is gone interests nobody; what happened does
	}
	b.mu.Lock()
	q := b.queues[key]
	cursor, current := state.Observed, statusOf(state.Object)
	if q.cursor > cursor {
		cursor, current = q.cursor, q.sent
	}
	b.mu.Unlock()

	event, status, err := b.event(key, r, current)
	if err != nil {
		return b.drop(r, err)
	}
	if !r.Kept && sameJSON(status, current) {
		b.count(func(s *Stats) { s.Superseded++ })
		return true, nil // it stands there already
	}
	ctx, cancel := context.WithTimeout(ctx, oneAppend)
	defer cancel()
	seqs, err := b.o.Log.Append(ctx, events.Entry{Event: event, Expect: events.ExpectClass(event.Subject, cursor)})
	switch {
	case err == nil:
		b.moved(key, seqs[0], status)
		b.count(func(s *Stats) { s.Appended++ })
		if b.o.Logger.Enabled(ctx, slog.LevelDebug) {
			b.o.Logger.Debug("reported", r.attrs(), events.LogSequence, seqs[0])
		}
		return true, nil
	case errors.Is(err, events.ErrConflict):
		return b.conflict(ctx, key, r, event.Subject, err)
	case errors.Is(err, events.ErrInvalid):
		return b.drop(r, err)
	}
	return false, err
}

// attrs describe the report in a log line, as an event that has no sequence yet.
func (r Report) attrs() slog.Attr {
	return events.Event{Subject: events.Subject{Key: r.Key}, Type: r.Type, Cause: r.Cause, Correlation: r.Correlation, TraceParent: r.TraceParent}.LogAttrs()
}

// drop gives up a report that can never be appended. That is a bug: it is logged and counted.
func (b *Outbox) drop(r Report, err error) (bool, error) {
	b.o.Logger.Error("report dropped: the log can never accept it", r.attrs(), "id", r.ID, events.LogError, err)
	b.count(func(s *Stats) { s.Dropped++ })
	return true, nil
}

func (b *Outbox) moved(key events.Key, seq events.Sequence, status json.RawMessage) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if q := b.queues[key]; seq > q.cursor {
		q.cursor, q.sent = seq, status
	}
}

// conflict reads who was faster: our own append of before, or another writer whose part is merged next time.
func (b *Outbox) conflict(ctx context.Context, key events.Key, r Report, subject events.Subject, cause error) (bool, error) {
	last, err := b.o.Log.LastOn(ctx, subject.AnyNode())
	if err != nil {
		return false, fmt.Errorf("after %w: newest report: %v", cause, err)
	}
	b.moved(key, last.Sequence, statusOf(last.Object))
	if last.ID == r.ID {
		return true, nil
	}
	return false, cause
}

// event builds the event, with other writers' parts of the current status.
func (b *Outbox) event(key events.Key, r Report, current json.RawMessage) (events.Event, json.RawMessage, error) {
	status := r.Status
	if b.o.Merge != nil && len(current) > 0 {
		merged, err := b.o.Merge(key, status, current)
		if err != nil {
			return events.Event{}, nil, fmt.Errorf("merging the status of %s: %w", key, err)
		}
		status = merged
	}
	object, err := json.Marshal(map[string]any{"metadata": metadata(key, r.UID), "status": status})
	if err != nil {
		return events.Event{}, nil, err
	}
	was := current
	if was == nil {
		was = r.Was
	}
	var changes []events.Change
	if len(was) > 0 {
		changes, err = events.Diff(wrap(was), wrap(status))
		if err != nil {
			return events.Event{}, nil, err
		}
	}
	return events.Event{
		ID: r.ID, Subject: events.Subject{Class: events.Observed, Key: key, Node: b.o.Node},
		Type: r.Type, Source: b.o.Source, Actor: b.o.Actor, Time: r.Time,
		Cause: r.Cause, Correlation: r.Correlation, TraceParent: r.TraceParent, Reason: r.Reason, UID: r.UID,
		Object: object, Changes: events.EncodeChanges(changes),
	}, status, nil
}

// sameJSON compares two objects, whatever the order of their fields.
func sameJSON(a, b json.RawMessage) bool {
	var x, y any
	return json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil && reflect.DeepEqual(x, y)
}

func metadata(key events.Key, uid string) map[string]string {
	m := map[string]string{"name": key.Name, "uid": uid}
	if key.Namespace != "" {
		m["namespace"] = key.Namespace
	}
	return m
}

func wrap(status json.RawMessage) json.RawMessage {
	return append(append([]byte(`{"status":`), bytes.TrimSpace(status)...), '}')
}

func statusOf(object json.RawMessage) json.RawMessage {
	var o struct {
		Status json.RawMessage `json:"status"`
	}
	if json.Unmarshal(object, &o) != nil {
		return nil
	}
	return o.Status
}
