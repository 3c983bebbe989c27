package jetstream

import (
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/orlog-io/orlog/events"
)

// Appends of different callers that wait at the same time share an atomic batch, as the server writes a batch
// to disk once, but each single message for itself.
//
// One append, or group of appends, is under way at a time; what arrives meanwhile forms the next group. So a
// lone writer never waits for company, and the more writers, the larger the groups. A group must not change
// what its members get: where the batch is refused (some member's guard failed), nothing was appended, and
// each member is published for itself. Members about the same object never share a group, as the server
// judges a batch's guards by what was there before it.
const (
	// groupFromDisk is how many events make a batch cheaper than single messages: the server stages a batch in
	// files of its own first.
	groupFromDisk = 16
	// groupFromMemory is that where these files are in memory.
	groupFromMemory = 4
	// groupBytes bounds what one batch carries, unless it is one large append.
	groupBytes = 8 << 20
	// groupPause is for how many groups batching pauses at most, after batches that were refused.
	groupPause = 64
	// gatherShare bounds how long the next group waits for the writers of the last one: this part of what
	// the last one took.
	gatherShare = 4
)

type group struct {
	mu      sync.Mutex
	running bool
	waiting []*appending
	// enough, where not nil, is closed when as many wait as gather waits for.
	enough chan struct{}
	wanted int

	// pause counts down the groups that are not batched, as the last batches were refused; refused is where
	// it starts next time. Only the goroutine that runs the groups touches them.
	pause, refused int
}

// outcome is what an attempt to append gives.
type outcome struct {
	seqs []events.Sequence
	err  error
}

// submit makes the first attempt to append, together with others if others wait.
func (l *log) submit(ctx context.Context, a *appending) ([]events.Sequence, error) {
	a.done = make(chan outcome, 1)
	l.group.mu.Lock()
	l.group.waiting = append(l.group.waiting, a)
	if l.group.enough != nil && len(l.group.waiting) >= l.group.wanted {
		close(l.group.enough)
		l.group.enough = nil
	}
	if !l.group.running {
		l.group.running = true
		go l.runGroups()
	}
	l.group.mu.Unlock()
	select {
	case o := <-a.done:
		return o.seqs, o.err
	case <-ctx.Done():
		return nil, transient(ctx.Err())
	case <-l.closing:
		return nil, l.closed("append")
	}
}

// runGroups publishes group after group until nobody waits. Every step is bounded by attemptTimeout.
func (l *log) runGroups() {
	for {
		members := l.nextGroup()
		if members == nil {
			return
		}
		began := time.Now()
		if l.group.pause > 0 {
			l.group.pause--
		} else if l.worthBatching(members) && l.publishGroup(members) {
			l.gather(len(members), time.Since(began)/gatherShare)
			continue
		}
		var wg sync.WaitGroup
		for _, a := range members {
			wg.Go(func() { a.finish(a.attempt(context.Background())) })
		}
		wg.Wait()
	}
}

// gather waits, for so long at most, until the writers of the last group, who have just got their answers, are
// back. Without that, two halves of the writers would take turns for ever, each half waiting for the other's
// group, and every group would be half as large as it could be.
func (l *log) gather(last int, patience time.Duration) {
	if last < l.groupFrom() {
		return
	}
	l.group.mu.Lock()
	enough := make(chan struct{})
	l.group.wanted = min(last+len(l.group.waiting), events.MaxBatch)
	if len(l.group.waiting) >= l.group.wanted {
		l.group.mu.Unlock()
		return
	}
	l.group.enough = enough
	l.group.mu.Unlock()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-enough:
	case <-timer.C:
		l.group.mu.Lock()
		l.group.enough = nil
		l.group.mu.Unlock()
	case <-l.closing:
	}
}

func (l *log) worthBatching(members []*appending) bool {
	entries, batches := 0, 0
	for _, a := range members {
		if entries += len(a.entries); len(a.entries) > 1 {
			batches++
		}
	}
	return len(members) > 1 && (entries >= l.groupFrom() || batches > 1)
}

// groupFrom is from how many events on a batch is cheaper than single messages.
func (l *log) groupFrom() int {
	if l.staging.inMemory() {
		return groupFromMemory
	}
	return groupFromDisk
}

// nextGroup takes those who wait, in their order, as far as they may share a batch; nil ends the run.
func (l *log) nextGroup() []*appending {
	l.group.mu.Lock()
	defer l.group.mu.Unlock()
	var members, rest []*appending
	objects := map[events.Key]bool{}
	entries, bytes := 0, 0
	for _, a := range l.group.waiting {
		fits := len(members) == 0 ||
			entries+len(a.entries) <= events.MaxBatch && bytes+a.bytes <= groupBytes && a.joins(objects) && members[0].joins(nil)
		if fits {
			members = append(members, a)
			entries, bytes = entries+len(a.entries), bytes+a.bytes
		} else {
			rest = append(rest, a)
		}
		for _, e := range a.entries { // also of those left out: who came first goes first
			objects[e.Event.Subject.Key] = true
		}
	}
	l.group.waiting = rest
	l.group.running = members != nil
	return members
}

// joins reports whether the append can share a batch with others: it neither touches nor guards one of their
// objects.
func (a *appending) joins(others map[events.Key]bool) bool {
	for _, e := range a.entries {
		if others[e.Event.Subject.Key] {
			return false
		}
		if s := e.Event.Subject; e.Expect != nil && e.Expect.On != s.AnyNode() && e.Expect.On != s.AnyClass() {
			return false // a guard on who knows what
		}
	}
	return true
}

// publishGroup publishes the members as one batch; false where that says nothing about each of them.
func (l *log) publishGroup(members []*appending) bool {
	var all appending
	all.log = l
	for _, a := range members {
		all.entries, all.msgs = append(all.entries, a.entries...), append(all.msgs, a.msgs...)
	}
	if !slices.ContainsFunc(members, func(a *appending) bool { return len(a.entries) > 1 }) {
		all.batch = rand.Text()
	}
	staged, placeErr := l.staging.place(all.batch)
	answer, err := all.publish(context.Background())
	if err == nil {
		placeErr = errors.Join(placeErr, l.staging.placed(staged, answer.Error != nil))
	}
	if placeErr != nil {
		l.conn.report(placeErr)
	}
	if err == nil && answer.Error != nil || errors.Is(err, ErrForbidden) { // nothing was appended
		l.group.refused = min(2*l.group.refused+1, groupPause)
		l.group.pause = l.group.refused
		return false
	}
	if err == nil {
		l.group.refused /= 2
		seqs := all.sequences(events.Sequence(answer.Sequence))
		for _, a := range members {
			a.finish(seqs[:len(a.entries):len(a.entries)], nil)
			seqs = seqs[len(a.entries):]
		}
		return true
	}
	for _, a := range members { // unknown whether appended: each finds out for itself
		a.finish(nil, err)
	}
	return true
}

func (a *appending) finish(seqs []events.Sequence, err error) { a.done <- outcome{seqs, err} }
