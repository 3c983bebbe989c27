package projections

import (
	"errors"
	"fmt"
	"log/slog"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"
)

var (
	// ErrTooOld: the store does not keep what was asked for. Read the present, then watch from there.
	ErrTooOld = errors.New("too old")
	// ErrFuture: the sequence asked for has not been folded yet. See [Store.WaitFor].
	ErrFuture = errors.New("in the future")
)

// Options say how much a store keeps. The zero Options keep every object's present and no past.
type Options struct {
	// History keeps every version and every event, for At, AtTime, Timeline, EventAt and Watch from any
	// past sequence.
	History bool
	// Patterns restricts what Follow subscribes to: the position goes from one event that matches to the next, and a
	// gap between them is not noticed. Empty: all.
	Patterns []string
	// Scope names what Patterns do: a store written under another scope is rebuilt.
	Scope string
	// InMemory keeps the store in memory: it ends with the process. For tests and simulation.
	InMemory bool
	// CacheBytes (default 16 MiB) holds uncompressed blocks, MemTableBytes (default 8 MiB, with History 32 MiB, which
	// halves what compactions write again; two of them, four while events come faster than the disk takes them) the
	// newest rows. Both are taken as they are needed.
	CacheBytes, MemTableBytes int64
	// Logger takes warnings; nil: slog.Default().
	Logger *slog.Logger

	fs vfs.FS // for crash tests
}

func (o Options) withDefaults() Options {
	if o.CacheBytes <= 0 {
		o.CacheBytes = 16 << 20
	}
	if o.MemTableBytes <= 0 {
		o.MemTableBytes = 8 << 20
		if o.History {
			o.MemTableBytes = 32 << 20
		}
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.fs == nil {
		o.fs = privateFS{vfs.Default}
		if o.InMemory {
			o.fs = vfs.NewMem()
		}
	}
	return o
}

func (o Options) pebble(dir string) *pebble.Options {
	p := &pebble.Options{
		FS:                          o.fs,
		CacheSize:                   o.CacheBytes + 2*o.MemTableBytes, // Pebble takes the memtables out of the cache's share
		MemTableSize:                uint64(o.MemTableBytes),
		MemTableStopWritesThreshold: 4,
		FormatMajorVersion:          pebble.FormatNewest,
		Logger:                      pebbleLogger{o.Logger.With("projection", dir)},
	}
	// The one that Pebble takes by itself looks ten times a second, in each store, whether a compaction may begin.
	// Without that it looks where something was written, read or compacted, which is when there can be one.
	p.Experimental.CompactionScheduler = pebble.NewConcurrencyLimitSchedulerWithNoPeriodicGrantingForTest()
	for i := range p.Levels {
		p.Levels[i].FilterPolicy = bloom.FilterPolicy(10) // most folds begin by looking for an object that is new
	}
	return p
}

// pebbleLogger passes on what Pebble reports about failures and drops its progress notes.
type pebbleLogger struct{ to *slog.Logger }

func (pebbleLogger) Infof(string, ...any) {}

func (l pebbleLogger) Errorf(format string, args ...any) {
	l.to.Error("pebble: " + fmt.Sprintf(format, args...))
}

// Fatalf must not return: Pebble calls it where going on would corrupt the store.
func (l pebbleLogger) Fatalf(format string, args ...any) {
	panic("pebble: " + fmt.Sprintf(format, args...))
}
