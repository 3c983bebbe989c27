package narrator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/flowcontrol"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/services/loop"
)

// lookBack is how far a narrator that has told nothing yet looks back: a log may be older than its first narrator.
const lookBack = time.Hour

// What the narrator asks of the gateway at most: writes a second, and at once. Twice upstream's scheduler's.
const (
	writesPerSecond = 100
	writesAtOnce    = 200
)

// Options configure Run.
type Options struct {
	// Store is the reconcilers' projection, which has caught up with the log.
	Store loop.Store
	Log   events.Log
	// Performer makes what writes to the gateway as an identity.
	Performer func(loop.Identity) (loop.Performer, error)
	// Logger receives what operators should see (nil: slog.Default).
	Logger *slog.Logger
	// Now is the clock (nil: time.Now).
	Now func() time.Time
	// Place is told how far the narrator has come; nil: nobody asks.
	Place *Place
}

// narrator is Run at work, in one goroutine.
type narrator struct {
	Options
	memory     *memory
	performers map[string]loop.Performer // by user
	budget     flowcontrol.RateLimiter
	next       events.Sequence // what is to be told next
}

// Run tells what happens until ctx ends or the log is closed. Other failures it only waits out: narration is
// a courtesy.
func Run(ctx context.Context, o Options) error {
	if o.Store == nil || o.Log == nil || o.Performer == nil {
		return fmt.Errorf("narrator: %w: Store, Log and Performer are required", events.ErrInvalid)
	}
	defer o.Place.ends()
	return newNarrator(o).run(ctx)
}

func newNarrator(o Options) *narrator {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	o.Logger = o.Logger.With("decider", "narrator")
	return &narrator{Options: o, memory: newMemory(), performers: map[string]loop.Performer{},
		budget: flowcontrol.NewTokenBucketRateLimiter(writesPerSecond, writesAtOnce)}
}

// restart is how long the narrator waits after a failure, at first and at most.
const (
	firstRestart = 500 * time.Millisecond
	lastRestart  = 30 * time.Second
)

func (n *narrator) run(ctx context.Context) error {
	wait := firstRestart
	for {
		from := n.next
		err := n.begin(ctx)
		if err == nil {
			err = n.follow(ctx)
		}
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, events.ErrClosed):
			return fmt.Errorf("narrator: %w", err)
		}
		if n.next > from {
			wait = firstRestart
		}
		n.Logger.Warn("narration stopped, going on later", events.LogSequence, n.next, "after", wait, events.LogError, err)
		if err := pause(ctx, wait); err != nil {
			return err
		}
		wait = min(2*wait, lastRestart)
	}
}

func pause(ctx context.Context, wait time.Duration) error {
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// begin finds where to go on: at the newest event of the log that was told (it may have been told in part),
// however long ago that was.
func (n *narrator) begin(ctx context.Context) error {
	if n.next > 0 {
		return nil
	}
	recent, err := n.recent()
	if err != nil {
		return err
	}
	n.memory = newMemory()
	last := n.memory.recall(recent)
	if last == 0 {
		if last, err = firstSince(ctx, n.Log, n.Now().Add(-lookBack)); err != nil {
			return err
		}
	}
	n.next = last
	return nil
}

// eventObjects are the Events themselves.
var eventObjects = loop.Resource[corev1.Event]{
	GroupVersionResource: schema.GroupVersionResource{Version: "v1", Resource: "events"}, Kind: "Event", Namespaced: true}

// recent are the narrator's Events that may still be counted up: those of the last chapterFor before the newest.
// Events are kept for ever, so they are looked through one by one, and only these are held.
func (n *narrator) recent() ([]*corev1.Event, error) {
	now := n.Store.Now()
	defer now.Close()
	v := loop.NewView(now, nil, loop.NewCache(1), events.Cause{})
	var newest, trimmed time.Time
	var out []*corev1.Event
	for s := range v.States(eventObjects.Group, eventObjects.Resource, "") {
		e := eventObjects.Of(v, s)
		if e == nil || sequenceOf(e) == 0 || newest.Sub(e.LastTimestamp.Time) > chapterFor {
			continue
		}
		if out = append(out, e); e.LastTimestamp.After(newest) {
			newest = e.LastTimestamp.Time
		}
		if newest.Sub(trimmed) > chapterFor {
			out, trimmed = since(out, newest.Add(-chapterFor)), newest
		}
	}
	if v.Err() != nil {
		return nil, fmt.Errorf("reading the Events that were told: %w", v.Err())
	}
	return since(out, newest.Add(-chapterFor)), nil
}

// since are the Events that happened at a time or later.
func since(told []*corev1.Event, t time.Time) []*corev1.Event {
	return slices.DeleteFunc(told, func(e *corev1.Event) bool { return e.LastTimestamp.Time.Before(t) })
}

// firstSince is the first event of the log that was stored at a time or later.
func firstSince(ctx context.Context, log events.Log, t time.Time) (events.Sequence, error) {
	last, err := log.Last(ctx)
	if err != nil {
		return 0, fmt.Errorf("asking the log for its end: %w", err)
	}
	from, to := events.Sequence(1), last+1
	for from < to {
		middle := from + (to-from)/2
		e, err := log.Get(ctx, middle)
		switch {
		case err != nil && !errors.Is(err, events.ErrNotFound):
			return 0, fmt.Errorf("looking for the events since %s: %w", t.Format(time.RFC3339), err)
		case err != nil || e.Stored.Before(t): // what the log does not hold any more is old
			from = middle + 1
		default:
			to = middle
		}
	}
	return from, nil
}

// follow tells what the log holds from n.next on.
func (n *narrator) follow(ctx context.Context) error {
	// All of it, though few kinds are told: the process's other readers have the same events decoded already.
	sub, err := n.Log.Subscribe(ctx, n.next)
	if err != nil {
		return err
	}
	defer sub.Close()
	for {
		n.Place.comesTo(n.next)
		got, err := sub.Next(ctx)
		if err != nil {
			return err
		}
		for _, e := range got {
			n.Place.comesTo(e.Sequence)
			if err := n.tell(ctx, e); err != nil {
				return err
			}
			n.next = e.Sequence + 1
		}
	}
}

// tell tells one event of the log.
func (n *narrator) tell(ctx context.Context, e events.Event) error {
	told, err := Narrate(e)
	if err != nil {
		n.Logger.Error("an event of the log cannot be told", e.LogAttrs(), events.LogError, err)
		return nil
	}
	if len(told) == 0 {
		return nil
	}
	// Not before the reconcilers know of it: they have more urgent things to do with the same event.
	if err := n.Store.WaitFor(ctx, e.Sequence); err != nil {
		return fmt.Errorf("waiting for the projection: %w", err)
	}
	for _, t := range told {
		if ok, err := n.takesEvents(t.Event.Namespace); err != nil || !ok {
			if err != nil {
				return err
			}
			continue
		}
		p, err := n.performer(t.As)
		if err != nil {
			return err
		}
		if event, fresh := n.memory.note(t.Event); event != nil {
			if err := n.write(ctx, p, event, fresh, t.Cause); err != nil {
				return err
			}
		}
	}
	return nil
}

// takesEvents says whether a namespace is there and not about to go.
func (n *narrator) takesEvents(namespace string) (bool, error) {
	now := n.Store.Now()
	defer now.Close()
	v := loop.NewView(now, nil, nil, events.Cause{})
	ns := loop.Namespaces.Get(v, "", namespace)
	return ns != nil && ns.DeletionTimestamp == nil, v.Err()
}

// write creates an Event or brings it up to date.
func (n *narrator) write(ctx context.Context, p loop.Performer, e *corev1.Event, fresh bool, why events.Cause) error {
	create := eventObjects.Create(e)
	if fresh {
		_, err := n.perform(ctx, p, create, why)
		return err
	}
	update, err := repeat(e)
	if err != nil {
		return fmt.Errorf("the Event %s: %w", e.Name, err)
	}
	seq, err := n.perform(ctx, p, update, why)
	if err == nil && seq == 0 { // somebody deleted it meanwhile, or it was let expire
		_, err = n.perform(ctx, p, create, why)
	}
	return err
}

// repeat makes the effect that says that what an Event tells of has happened again.
func repeat(e *corev1.Event) (loop.Effect, error) {
	patch, err := json.Marshal(map[string]any{"count": e.Count, "lastTimestamp": e.LastTimestamp, "message": e.Message,
		"metadata": map[string]any{"annotations": map[string]string{sequenceAnnotation: e.Annotations[sequenceAnnotation]}}})
	return eventObjects.Patch(e, types.MergePatchType, patch), err
}

// Attempts at a write that the gateway refuses for a reason that may pass, and the waits between them.
const (
	attempts  = 8
	firstWait = 100 * time.Millisecond
	lastWait  = 10 * time.Second
)

// perform performs an effect within the budget. It gives up, and says so, where the gateway keeps refusing;
// while there is none it waits, as the log can be told later as well. Errors are ctx's.
func (n *narrator) perform(ctx context.Context, p loop.Performer, e loop.Effect, why events.Cause) (events.Sequence, error) {
	for try, wait := 1, firstWait; ; try, wait = try+1, min(2*wait, lastWait) {
		if err := n.budget.Wait(ctx); err != nil {
			return 0, err
		}
		seq, err := p.Perform(ctx, e, why)
		gone := errors.Is(err, events.ErrUnavailable)
		switch {
		case err == nil, e.Verb == loop.Create && errors.Is(err, events.ErrConflict): // told already
			return seq, nil
		case ctx.Err() != nil:
			return 0, ctx.Err()
		case errors.Is(err, events.ErrInvalid), apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause), try >= attempts && !gone:
			n.Logger.Warn("an Event could not be written and is left out", why.LogAttrs(e.Key), events.LogError, err)
			return 0, nil
		}
		n.Logger.Log(ctx, level(try), "will write an Event again", why.LogAttrs(e.Key), "after", wait, events.LogError, err)
		if err := pause(ctx, wait); err != nil {
			return 0, err
		}
	}
}

// level: what passes at once is the ordinary course of things.
func level(try int) slog.Level {
	if try < 3 {
		return slog.LevelDebug
	}
	return slog.LevelWarn
}

func (n *narrator) performer(as loop.Identity) (loop.Performer, error) {
	if p := n.performers[as.User]; p != nil {
		return p, nil
	}
	p, err := n.Performer(as)
	if err != nil {
		return nil, fmt.Errorf("writing as %s: %w", as.User, err)
	}
	n.performers[as.User] = p
	return p, nil
}
