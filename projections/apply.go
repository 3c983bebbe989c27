package projections

import (
	"bytes"
	"encoding/json"
	"fmt"
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

	tx := s.begin()
	defer tx.batch.Close()
	for i := range batch {
		if err := tx.fold(&batch[i]); err != nil {
			return fmt.Errorf("projection in %s: event %d about %s: %w", s.dir, batch[i].Sequence, batch[i].Subject.Key, err)
		}
	}
	if tx.position == s.Position() {
		return nil
	}
	if err := tx.commit(); err != nil {
		return fmt.Errorf("projection in %s: committing sequence %d: %w", s.dir, tx.position, err)
	}
	s.newest, s.asOf = tx.newest, tx.asOf
	s.feed.publish(tx.position, tx.changes, func() { s.position.Store(uint64(tx.position)) })
	s.waiters.reached(tx.position)
	return nil
}

// tx is one Apply: the rows it has touched, as they were and as they are becoming.
type tx struct {
	s        *Store
	batch    *pebble.Batch
	rows     map[events.Key]*touched
	changes  []Change
	position events.Sequence
	newest   string
	asOf     time.Time
	buf      []byte
}

type touched struct{ was, is row }

func (s *Store) begin() *tx {
	return &tx{s: s, batch: s.db.NewBatch(), rows: map[events.Key]*touched{}, position: s.Position(), newest: s.newest, asOf: s.asOf}
}

func (t *tx) fold(e *events.Event) error {
	if e.Sequence <= t.s.Position() {
		return nil
	}
	if e.Sequence <= t.position {
		return fmt.Errorf("comes after event %d in one batch: %w", t.position, events.ErrInvalid)
	}
	t.position, t.newest = e.Sequence, e.ID
	if e.Stored.After(t.asOf) {
		t.asOf = e.Stored
	}
	key := e.Subject.Key
	if t.s.o.Keep != nil && !t.s.o.Keep(key) {
		return nil
	}
	r, err := t.row(key)
	if err != nil {
		return err
	}
	prev := r.is
	next, changed := events.Fold(prev.State, *e)
	r.is = row{State: next, owners: prev.owners}
	if changed && e.Subject.Class == events.Desired {
		r.is.owners = ownersOf(next)
	}
	t.changes = append(t.changes, newChange(*e, prev.State, next, changed))
	if !t.s.o.History {
		return nil
	}
	return t.remember(e, prev, r.is, changed)
}

// remember writes the past: the version that was overwritten, the tombstone that has come to be, the event.
// A live object's newest version is not written here: its live row is that version.
func (t *tx) remember(e *events.Event, prev, next row, changed bool) error {
	if prev.Exists() {
		if err := t.version(prev); err != nil {
			return err
		}
	}
	if !next.Exists() {
		if err := t.version(next); err != nil {
			return err
		}
	}
	t.buf = encodeEvent(t.buf[:0], eventRecord{Event: *e, asOf: t.asOf, changed: changed})
	return t.batch.Set(eventRow(e.Sequence), t.buf, nil)
}

// version writes a version row. Only the version that an event made by changing the object holds it: events
// that were ignored since then left it as it was.
func (t *tx) version(r row) error {
	t.buf = encodeRow(t.buf[:0], r, r.Newest() != r.Revision)
	return t.batch.Set(versionRow(r.Key, r.Newest()), t.buf, nil)
}

// row finds an object's present state: in this batch, among the living, among the dead.
func (t *tx) row(k events.Key) (*touched, error) {
	if r, ok := t.rows[k]; ok {
		return r, nil
	}
	is, err := t.s.present(t.s.db, k)
	if err != nil {
		return nil, err
	}
	r := &touched{was: is, is: is}
	t.rows[k] = r
	return r, nil
}

func (t *tx) commit() error {
	for k, r := range t.rows {
		if err := t.settle(k, r); err != nil {
			return err
		}
	}
	if err := t.batch.Set(metaPosition, encodePosition(t.position, t.asOf, t.newest), nil); err != nil {
		return err
	}
	return t.batch.Commit(pebble.NoSync)
}

// settle writes an object's present row and moves its index entries.
func (t *tx) settle(k events.Key, r *touched) error {
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
	var o struct {
		Metadata struct {
			OwnerReferences []struct {
				UID string `json:"uid"`
			} `json:"ownerReferences"`
		} `json:"metadata"`
	}
	if json.Unmarshal(s.Object, &o) != nil { // an object that is not Kubernetes' has no owners
		return nil
	}
	var out []string
	for _, ref := range o.Metadata.OwnerReferences {
		if ref.UID != "" {
			out = append(out, ref.UID)
		}
	}
	return out
}
