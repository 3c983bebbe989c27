package jetstream

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/orlog-io/orlog/events"
)

// maxLost is how often an append is retried whose ID the server knows, but whose event is not on the log.
const maxLost = 8

// resolve decides what a refusal means: our own append, met again; somebody else's, that came first; or, in a
// cluster, an append on the same subject that is still under way (a transient error).
func (a *appending) resolve(ctx context.Context, refusal *apiError) ([]events.Sequence, error) {
	duplicate := refusal.Code == errBatchDuplicate || refusal.Code == errDuplicateUnknown
	if a.retried || duplicate {
		seqs, err := a.find(ctx)
		if err != nil || seqs != nil {
			return seqs, err
		}
	}
	if !duplicate && a.log.replicas > 1 {
		return nil, transient(refusal) // the pin failed, which is no guard of the caller's: look again
	}
	if !duplicate {
		return nil, a.conflict(ctx, refusal)
	}
	if a.lost++; a.lost > maxLost {
		return nil, fmt.Errorf("%w: event ID %s is in use by another append: %w", events.ErrInvalid, a.entries[0].Event.ID, refusal)
	}
	return nil, transient(refusal)
}

// conflict names the guard that failed. Where all of them hold again the refusal was about an append under
// way, and is transient.
func (a *appending) conflict(ctx context.Context, refusal *apiError) error {
	var guards []events.Expect
	for _, e := range a.entries {
		if e.Expect != nil {
			guards = append(guards, *e.Expect)
		}
	}
	if len(guards) == 1 && refusal.Code == errWrongSequence {
		if actual, ok := lastInDescription(refusal.Description); ok {
			return &events.ConflictError{On: guards[0].On, Expected: guards[0].Last, Actual: actual}
		}
	}
	for _, g := range guards {
		newest, err := a.log.LastOn(ctx, g.On)
		if err != nil && !errors.Is(err, events.ErrNotFound) {
			return err
		}
		if newest.Sequence != g.Last {
			return &events.ConflictError{On: g.On, Expected: g.Last, Actual: newest.Sequence}
		}
	}
	return transient(refusal)
}

// lastInDescription reads "wrong last sequence: 7".
func lastInDescription(text string) (events.Sequence, bool) {
	n, err := strconv.ParseUint(text[strings.LastIndexByte(text, ' ')+1:], 10, 64)
	return events.Sequence(n), err == nil
}

// find looks for the entries on the log; nil where they are not there.
func (a *appending) find(ctx context.Context) ([]events.Sequence, error) {
	i, search := 0, a.log.findByTime
	for j, e := range a.entries {
		if e.Expect != nil && events.Matches(e.Expect.On, e.Event.Subject.String()) {
			i, search = j, a.log.findByGuard
			break
		}
	}
	at, err := search(ctx, a.entries[i])
	if err != nil || at == 0 {
		return nil, err
	}
	last := len(a.entries) - 1
	seqs := a.sequences(at + events.Sequence(last-i))
	// One append is contiguous, so its two ends tell whether this is it.
	for _, j := range []int{0, last} {
		if j == i {
			continue
		}
		if e, err := a.log.Get(ctx, seqs[j]); err != nil && !errors.Is(err, events.ErrNotFound) {
			return nil, err
		} else if e.ID != a.entries[j].Event.ID {
			return nil, fmt.Errorf("%w: event %s is on the log at %d, but appended with other events than now", events.ErrInvalid, a.entries[i].Event.ID, at)
		}
	}
	return seqs, nil
}

// findByGuard uses that a guarded event, where it was appended, is the first one on its guard's pattern after
// the guard's sequence.
func (l *log) findByGuard(ctx context.Context, e events.Entry) (events.Sequence, error) {
	got, err := l.nextOn(ctx, e.Expect.On, e.Expect.Last+1)
	if err != nil || got.ID != e.Event.ID {
		return 0, ignoreNotFound(err)
	}
	return got.Sequence, nil
}

// clockSkew is by how much a writer's clock may be ahead of the log's.
const clockSkew = time.Hour

// findByTime looks through the events on the entry's own subject, from the newest back to when its writer made
// it, or as far as the server recognises a message ID.
func (l *log) findByTime(ctx context.Context, e events.Entry) (events.Sequence, error) {
	subject := e.Event.Subject.String()
	last, err := l.LastOn(ctx, subject)
	if err != nil || last.ID == e.Event.ID {
		return last.Sequence, ignoreNotFound(err)
	}
	since := last.Stored.Add(-2 * l.conn.opts.dedupe)
	if made := e.Event.Time.Add(-clockSkew); made.Before(since) {
		since = made
	}
	// The first sequence that is young enough, by binary search over the whole stream.
	start := sort.Search(int(last.Sequence), func(n int) bool {
		if err != nil {
			return true
		}
		var at events.Event
		at, err = l.nextOn(ctx, events.SubjectRoot+".>", events.Sequence(n+1))
		return !at.Stored.Before(since)
	})
	for seq := events.Sequence(start + 1); err == nil && seq <= last.Sequence; {
		var at events.Event
		if at, err = l.nextOn(ctx, subject, seq); err == nil && at.ID == e.Event.ID {
			return at.Sequence, nil
		}
		seq = at.Sequence + 1
	}
	return 0, ignoreNotFound(err)
}

func ignoreNotFound(err error) error {
	if errors.Is(err, events.ErrNotFound) {
		return nil
	}
	return err
}
