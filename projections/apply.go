package projections

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/orlog-io/orlog/events"
)

// Apply folds a batch of events, in the order of the log, and commits rows and position together. Events at
// or before the position are skipped. On an error nothing has been applied. One goroutine at a time gets in.
func (s *Store) Apply(batch []events.Event) error {
	if !s.gate.enter() {
		return fmt.Errorf("projection in %s: %w", s.dir, events.ErrClosed)
	}
	defer s.gate.leave()
	s.applying.Lock()
	defer s.applying.Unlock()

	tx := &tx{s: s, batch: s.db.NewBatch(), objects: map[events.Key]*object{}, position: s.Position(), newest: s.newest, asOf: s.asOf}
	defer tx.batch.Close()
	if err := tx.apply(batch); err != nil {
		return fmt.Errorf("projection in %s: after sequence %d: %w", s.dir, s.Position(), err)
	}
	if tx.position == s.Position() {
		return nil
	}
	s.newest, s.asOf = tx.newest, tx.asOf
	s.feed.publish(tx.position, tx.changes(), func() { s.position.Store(uint64(tx.position)) })
	s.waiters.reached(tx.position)
	return nil
}

// tx is one Apply: the events in order, and the objects that they are about.
type tx struct {
	s        *Store
	batch    *pebble.Batch
	steps    []*step
	objects  map[events.Key]*object
	order    []*object
	position events.Sequence
	newest   string
	asOf     time.Time
	buf      []byte
}

// object is one object's part in the batch: as it was before, and as it is after all of its steps.
type object struct {
	was, is row
	steps   []*step
}

// step is one event folded.
type step struct {
	event      *events.Event
	asOf       time.Time
	prev, next row
	changed    bool
}

// apply sorts the events by object, folds, writes and commits.
func (t *tx) apply(batch []events.Event) error {
	for i := range batch {
		if err := t.take(&batch[i]); err != nil {
			return err
		}
	}
	if t.position == t.s.Position() {
		return nil
	}
	if err := t.fold(); err != nil {
		return err
	}
	if t.s.o.History {
		for _, st := range t.steps {
			if err := t.remember(st); err != nil {
				return err
			}
		}
	}
	for _, o := range t.order {
		if err := t.settle(o); err != nil {
			return err
		}
	}
	if err := t.batch.Set(metaPosition, encodePosition(t.position, t.asOf, t.newest), nil); err != nil {
		return err
	}
	return t.batch.Commit(pebble.NoSync)
}

// take advances the position over an event and, if the store keeps it, notes it as a step of its object.
func (t *tx) take(e *events.Event) error {
	if e.Sequence <= t.s.Position() {
		return nil
	}
	if e.Sequence <= t.position {
		return fmt.Errorf("event %d comes after event %d in one batch: %w", e.Sequence, t.position, events.ErrInvalid)
	}
	t.position, t.newest = e.Sequence, e.ID
	if e.Rejected() {
		t.s.o.Logger.Warn("what stands on the log is no event: it has no effect", "sequence", e.Sequence, "subject", e.Subject.String(), "from", e.Actor, "reason", e.Reason)
	}
	if e.Stored.After(t.asOf) {
		t.asOf = e.Stored
	}
	key := e.Subject.Key
	o := t.objects[key]
	if o == nil {
		o = &object{was: row{State: events.State{Key: key}}}
		t.objects[key], t.order = o, append(t.order, o)
	}
	st := &step{event: e, asOf: t.asOf}
	o.steps, t.steps = append(o.steps, st), append(t.steps, st)
	return nil
}

// fold folds every object's steps. Objects do not depend on each other, so a large batch, as while a store
// is rebuilt, is folded by all processors.
func (t *tx) fold() error {
	const few = 32 // objects that one processor may as well fold alone
	workers := min(runtime.GOMAXPROCS(0), (len(t.order)+few-1)/few)
	errs := make([]error, workers)
	var next atomic.Int64
	work := func(worker int) {
		for errs[worker] == nil {
			n := int(next.Add(1)) - 1
			if n >= len(t.order) {
				return
			}
			errs[worker] = t.order[n].fold(t.s)
		}
	}
	var wg sync.WaitGroup
	for worker := 1; worker < workers; worker++ {
		wg.Go(func() { work(worker) })
	}
	if workers > 0 {
		work(0)
	}
	wg.Wait()
	return errors.Join(errs...)
}

// fold reads what the object was and folds its steps.
func (o *object) fold(s *Store) (err error) {
	if o.was, err = s.present(s.db, o.was.Key); err != nil {
		return fmt.Errorf("reading %s: %w", o.was.Key, err)
	}
	o.is = o.was
	for _, st := range o.steps {
		st.prev = o.is
		o.is.bare = false
		o.is.State, st.changed = events.Fold(st.prev.State, *st.event)
		if st.changed && st.event.Subject.Class == events.Desired {
			o.is.owners = ownersOf(o.is.State)
		}
		st.next = o.is
	}
	return nil
}

// changes is what the steps mean to watchers.
func (t *tx) changes() []Change {
	out := make([]Change, len(t.steps))
	for i, st := range t.steps {
		out[i] = newChange(*st.event, st.prev.State, st.next.State, st.changed)
	}
	return out
}

// remember writes the past: the version that was overwritten, the tombstone that has come to be, the event.
// A live object's newest version is not written here: its live row is that version.
func (t *tx) remember(st *step) error {
	if st.prev.Exists() {
		if err := t.version(st.prev); err != nil {
			return err
		}
	}
	if !st.next.Exists() {
		if err := t.version(st.next); err != nil {
			return err
		}
	}
	t.buf = encodeEvent(t.buf[:0], eventRecord{Event: *st.event, asOf: st.asOf, changed: st.changed})
	return t.batch.Set(eventRow(st.event.Sequence), t.buf, nil)
}

// version writes a version row. Only the version that an event made by changing the object holds it: events
// that were ignored since then left it as it was.
func (t *tx) version(r row) error {
	t.buf = encodeRow(t.buf[:0], r, r.Newest() != r.Revision)
	return t.batch.Set(versionRow(r.Key, r.Newest()), t.buf, nil)
}

// settle writes an object's present row and moves its index entries.
func (t *tx) settle(r *object) error {
	k := r.is.Key
	to, from := byte(spaceLive), byte(spaceDead)
	if !r.is.Exists() {
		to, from = from, to
	}
	known := r.was.Newest() != 0
	if known && r.was.Exists() != r.is.Exists() {
		if err := t.batch.Delete(objectRow(from, k), nil); err != nil {
			return err
		}
	}
	t.buf = encodeRow(t.buf[:0], r.is, to == spaceDead)
	if err := t.batch.Set(objectRow(to, k), t.buf, nil); err != nil {
		return err
	}
	return t.index(k, indexTerms(r.was), indexTerms(r.is))
}

func (t *tx) index(k events.Key, was, is []indexTerm) error {
	for _, term := range was {
		if !contains(is, term) {
			if err := t.batch.Delete(indexRow(term.space, term.term, k), nil); err != nil {
				return err
			}
		}
	}
	for _, term := range is {
		if !contains(was, term) {
			if err := t.batch.Set(indexRow(term.space, term.term, k), nil, nil); err != nil {
				return err
			}
		}
	}
	return nil
}

// indexTerm is one thing that a live object can be found by.
type indexTerm struct {
	space byte
	term  string
}

func indexTerms(r row) []indexTerm {
	if !r.Exists() {
		return nil
	}
	var out []indexTerm
	if r.Node != "" {
		out = append(out, indexTerm{spaceNode, r.Node})
	}
	for _, uid := range r.owners {
		out = append(out, indexTerm{spaceOwner, uid})
	}
	return out
}

func contains(in []indexTerm, term indexTerm) bool {
	for _, t := range in {
		if t == term {
			return true
		}
	}
	return false
}

// ownersOf reads metadata.ownerReferences[].uid of a live object.
func ownersOf(s events.State) []string {
	if !s.Exists() || !bytes.Contains(s.Object, []byte(`"ownerReferences"`)) {
		return nil
	}
	var refs []struct {
		UID string `json:"uid"`
	}
	if json.Unmarshal(events.Member(events.Member(s.Object, "metadata"), "ownerReferences"), &refs) != nil {
		return nil // an object that is not Kubernetes' has no owners
	}
	var out []string
	for _, ref := range refs {
		if ref.UID != "" {
			out = append(out, ref.UID)
		}
	}
	return out
}
