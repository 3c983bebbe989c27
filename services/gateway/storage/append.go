package storage

import (
	"context"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/uuid"

	"github.com/orlog-io/orlog/events"
)

// How often an append whose outcome is unknown is repeated, with the same event ID, and how long the first
// wait is; each further one is twice as long.
const (
	appendAttempts = 6
	appendBackoff  = 20 * time.Millisecond
)

// statement is an event before it is attributed.
type statement struct {
	class   events.Class
	key     events.Key
	kind    string
	verb    events.Verb
	uid     string
	node    string
	object  []byte
	changes []events.Change
}

// event makes the event of a statement on the authority of a request.
func (s *store) event(ctx context.Context, st statement) events.Event {
	a, known := AttributionFrom(ctx)
	if !known || a.Actor == "" {
		a.Actor = serverActor
	}
	if a.Source == "" {
		a.Source = gatewaySource
	}
	e := events.Event{
		ID:      string(uuid.NewUUID()),
		Subject: events.Subject{Class: st.class, Key: st.key, Node: st.node},
		Type:    events.TypeOf(st.kind, st.verb),
		Source:  a.Source, Time: time.Now(), Actor: a.Actor, OnBehalfOf: a.OnBehalfOf,
		Cause: a.Cause, Correlation: a.Correlation, Reason: a.Reason, TraceParent: a.TraceParent,
		UID: st.uid, Object: st.object, Changes: events.EncodeChanges(st.changes),
	}
	if len(e.Object)+len(e.Changes) > events.MaxEventBytes-envelope {
		e.Changes = nil // they can be had from the states around the event; the object cannot
	}
	return e
}

// envelope is room for the JSON around an event's object and changes.
const envelope = 1 << 10

// errConflict: the guard of an append failed; decide again on newer state.
var errConflict = errors.New("the log holds a newer event")

// append appends one event. Where it is unknown whether that happened, it is tried again with the same ID.
func (s *store) append(ctx context.Context, e events.Event, guard *events.Expect, key string) (events.Sequence, error) {
	if len(e.Object) > events.MaxEventBytes-envelope {
		return 0, apierrors.NewRequestEntityTooLargeError(fmt.Sprintf("%s: %d bytes, the limit is %d", e.Subject.Key, len(e.Object), events.MaxEventBytes-envelope))
	}
	for wait, attempt := appendBackoff, 1; ; wait, attempt = 2*wait, attempt+1 {
		seqs, err := s.log.Append(ctx, events.Entry{Event: e, Expect: guard})
		switch {
		case err == nil:
			return seqs[0], nil
		case errors.Is(err, events.ErrConflict):
			return 0, errConflict
		case !errors.Is(err, events.ErrUnavailable) || attempt == appendAttempts:
			return 0, s.failure("append "+e.Type, key, err)
		}
		select {
		case <-ctx.Done():
			return 0, s.failure("append "+e.Type, key, errors.Join(ctx.Err(), err))
		case <-time.After(wait):
		}
	}
}

// settle waits until the projection has folded an event that was appended, so that its writer reads it. The
// write has happened: where waiting fails, it has happened none the less.
func (s *store) settle(ctx context.Context, k events.Key, seq events.Sequence) {
	if err := s.waitFor(ctx, seq); err != nil && ctx.Err() == nil {
		a, _ := AttributionFrom(ctx)
		why := events.Cause{Sequence: a.Cause, Correlation: a.Correlation, TraceParent: a.TraceParent}
		s.logger.Warn("a write succeeded, but the projection has not caught up with it", why.LogAttrs(k), events.LogSequence, seq, events.LogError, err)
	}
}

// cursor is what the projection knows of an object now.
func (s *store) cursor(k events.Key) (events.State, error) {
	view := s.proj.Now()
	defer view.Close()
	state, err := view.Cursor(k)
	if err != nil {
		return events.State{}, s.failure("get", k.String(), err)
	}
	return state, nil
}

// contention counts the conflicts of one write, so that it cannot go round for ever at full speed where the
// projection and the log disagree.
type contention struct{ rounds int }

// next is called after a conflict: it catches up with the log. From the tenth round on it slows down.
func (c *contention) next(ctx context.Context, s *store) error {
	if c.rounds++; c.rounds > 10 {
		select {
		case <-ctx.Done():
			return s.failure("retrying a conflicting write", s.prefix, ctx.Err())
		case <-time.After(min(time.Duration(c.rounds)*time.Millisecond, 100*time.Millisecond)):
		}
	}
	return s.catchUp(ctx)
}
