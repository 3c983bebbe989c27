package projections

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/orlog-io/orlog/events"
)

// format is the version of the row layout. Raise it whenever keys.go, rows.go or events.Fold change what
// is stored: a store of another format is rebuilt from the log.
const format = 1

// Store is one reader's projection of the log. All methods may be called from many goroutines, except that
// one goroutine applies.
type Store struct {
	dir string
	o   Options
	db  *pebble.DB

	gate     gate
	position atomic.Uint64
	// floor is the position of the store that a rebuild replaced: the log must reach it.
	floor events.Sequence

	applying sync.Mutex
	// newest and asOf belong to the event at the position: its id, and the clock of the whole log.
	newest string
	asOf   time.Time

	feed    feed
	waiters waiters

	viewsMu sync.Mutex
	views   map[*View]struct{}
}

// Open opens the store in a folder, or makes it. A store of another format, or kept under other options, is
// emptied and begins again at position 0, with a line in the log.
func Open(dir string, o Options) (*Store, error) {
	o = o.withDefaults()
	s := &Store{dir: dir, o: o, views: map[*View]struct{}{}}
	s.feed.init()
	if err := s.open(); err != nil {
		return nil, fmt.Errorf("projection in %s: %w", dir, err)
	}
	return s, nil
}

func (s *Store) open() error {
	if err := s.openPebble(); err != nil {
		return err
	}
	was, err := s.get(s.db, metaFormat)
	switch {
	case err != nil:
	case was == nil:
		err = s.db.Set(metaFormat, []byte(s.fingerprint()), pebble.NoSync)
	case string(was) != s.fingerprint():
		err = s.rebuild(was)
	}
	if err == nil {
		err = s.loadPosition()
	}
	if err != nil {
		return errors.Join(err, s.db.Close())
	}
	return nil
}

func (s *Store) openPebble() error {
	if !s.o.InMemory {
		if err := s.o.fs.MkdirAll(s.dir, 0o700); err != nil {
			return err
		}
	}
	db, err := pebble.Open(s.dir, s.o.pebble(s.dir))
	if err != nil {
		return fmt.Errorf("opening (if it is damaged, delete the folder: it is rebuilt from the log): %w", err)
	}
	s.db = db
	return nil
}

// fingerprint names everything that decides what the rows look like.
func (s *Store) fingerprint() string {
	return fmt.Sprintf("%d history=%t scope=%s", format, s.o.History, s.o.Scope)
}

// rebuild empties the store and remembers how far it had come, in one step.
func (s *Store) rebuild(was []byte) error {
	if err := s.loadPosition(); err != nil {
		return err
	}
	floor := max(s.floor, s.Position())
	s.o.Logger.Warn("projection was written in another format: rebuilding it from the log",
		"dir", s.dir, "was", string(was), "want", s.fingerprint(), events.LogSequence, floor)
	b := s.db.NewBatch()
	defer b.Close()
	return errors.Join(
		b.DeleteRange([]byte{0}, []byte{0xff}, nil),
		b.Set(metaFloor, binary.BigEndian.AppendUint64(nil, uint64(floor)), nil),
		b.Set(metaFormat, []byte(s.fingerprint()), nil),
		b.Commit(pebble.Sync))
}

// loadPosition reads the meta rows. Their encoding is the same in all formats, so that a rebuild can read
// how far a store of another format had come.
func (s *Store) loadPosition() error {
	floor, err := s.get(s.db, metaFloor)
	if err != nil {
		return err
	}
	if len(floor) == 8 {
		s.floor = events.Sequence(binary.BigEndian.Uint64(floor))
	}
	b, err := s.get(s.db, metaPosition)
	if err != nil {
		return err
	}
	at, asOf, id, err := decodePosition(b)
	if err != nil {
		return err
	}
	s.asOf, s.newest = asOf, id
	s.position.Store(uint64(at))
	s.feed.start(at)
	return nil
}

func encodePosition(at events.Sequence, asOf time.Time, id string) []byte {
	return appendString(appendTime(binary.BigEndian.AppendUint64(nil, uint64(at)), asOf), id)
}

// decodePosition reads the position row; none is position 0.
func decodePosition(b []byte) (events.Sequence, time.Time, string, error) {
	if len(b) == 0 {
		return 0, time.Time{}, "", nil
	}
	if len(b) < 8 {
		return 0, time.Time{}, "", fmt.Errorf("position: %w", errShortRow)
	}
	d := decoder{rest: b[8:]}
	asOf, id := d.time(), d.string()
	return events.Sequence(binary.BigEndian.Uint64(b)), asOf, id, d.err
}

// Position is the newest sequence that the store has folded and committed; 0 before the first.
func (s *Store) Position() events.Sequence { return events.Sequence(s.position.Load()) }

// CheckLog refuses a log that is not the one this store was folded from: one that ends before the store's
// position (a lost tail, a stream recreated empty), or whose event there is another one (sequences used
// twice). Call it at start-up, before Follow and before anybody appends.
func (s *Store) CheckLog(ctx context.Context, log events.Log) error {
	last, err := log.Last(ctx)
	if err != nil {
		return fmt.Errorf("projection in %s: asking the log for its end: %w", s.dir, err)
	}
	s.applying.Lock()
	at, id := s.Position(), s.newest
	s.applying.Unlock()
	if reached := max(at, s.floor); last < reached {
		return fmt.Errorf("projection in %s has read up to sequence %d, but the log ends at %d: events were lost; restore the log from a backup or a replica (deleting the projection would only hide the loss): %w",
			s.dir, reached, last, events.ErrGap)
	}
	if at == 0 || id == "" {
		return nil
	}
	e, err := log.Get(ctx, at)
	if errors.Is(err, events.ErrNotFound) { // a volatile log keeps only the newest event about each object
		return nil
	}
	if err != nil {
		return fmt.Errorf("projection in %s: reading event %d: %w", s.dir, at, err)
	}
	if e.ID != id {
		return fmt.Errorf("projection in %s folded event %s at sequence %d, but the log holds %s there: this is not the log it was folded from, or its tail was lost and written anew; restore the log from a backup or a replica: %w",
			s.dir, id, at, e.ID, events.ErrGap)
	}
	return nil
}

// Close ends all watchers, waiters and views, waits for the operations under way and closes the folder.
// Every call on the store, and on what it gave out, then returns events.ErrClosed.
func (s *Store) Close() error {
	idle := make(chan struct{})
	if !s.gate.close(func() { close(idle) }) {
		return nil
	}
	s.feed.close()
	s.waiters.close()
	<-idle
	s.viewsMu.Lock()
	open := s.views
	s.views = nil
	s.viewsMu.Unlock()
	for v := range open {
		v.Close()
		<-v.done
	}
	if err := s.db.Close(); err != nil {
		return fmt.Errorf("projection in %s: closing: %w", s.dir, err)
	}
	return nil
}

// Dir is the folder that the store was opened in.
func (s *Store) Dir() string { return s.dir }

// Exists reports whether a folder holds a projection, or what is left of one.
func Exists(dir string) (bool, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return len(entries) > 0, err
}

// get copies a row's value out; nil where there is no such row.
func (s *Store) get(from pebble.Reader, key []byte) ([]byte, error) {
	v, closer, err := from.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	out := append([]byte{}, v...)
	return out, closer.Close()
}
