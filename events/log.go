package events

import (
	"context"
	"net"
)

// Expect is a compare-and-swap guard: the append succeeds only while Last is the sequence of the newest
// event on a subject matching On (0: no such event exists).
type Expect struct {
	On   string
	Last Sequence
}

// ExpectClass guards one class of an object: an intent does not conflict with a status report.
func ExpectClass(s Subject, last Sequence) *Expect { return &Expect{On: s.AnyNode(), Last: last} }

// ExpectObject guards an object as a whole, for writes that replace intent and status together.
func ExpectObject(s Subject, last Sequence) *Expect { return &Expect{On: s.AnyClass(), Last: last} }

// Entry is one event to append, with its guard (nil: unguarded).
type Entry struct {
	Event  Event
	Expect *Expect
}

// Log is an append-only, totally ordered, durable sequence of events. All implementations pass
// events/logtest. All methods may be called from many goroutines.
type Log interface {
	// Append appends all entries or none, in order, and returns the sequence of each. It returns only after
	// the events are durable. Errors match ErrConflict (a guard failed, nothing was appended), ErrInvalid,
	// ErrUnavailable (unknown whether appended; retry with the same IDs is safe: an append that had
	// succeeded returns its sequences again) or ErrClosed. Within one call each Expect.On may occur once, on
	// the first entry that it matches. At most MaxBatch entries.
	Append(ctx context.Context, entries ...Entry) ([]Sequence, error)

	// Get returns the event at a sequence; ErrNotFound where there is none.
	Get(ctx context.Context, seq Sequence) (Event, error)

	// Last returns the newest sequence of the whole log, 0 where it is empty. It is never behind an Append
	// that has returned anywhere.
	Last(ctx context.Context) (Sequence, error)

	// LastOn returns the newest event whose subject matches the pattern; ErrNotFound where there is none.
	LastOn(ctx context.Context, pattern string) (Event, error)

	// Subscribe delivers, in order and for ever, every event from sequence from (1: the beginning; 0 is taken
	// as 1) whose subject matches one of the patterns (none: all). ctx bounds the call, not the subscription.
	Subscribe(ctx context.Context, from Sequence, patterns ...string) (Subscription, error)

	// Close ends all subscriptions and frees what the log holds.
	Close() error
}

// MaxBatch is how many entries one Append may hold, MaxEventBytes how large an event's object and changes
// together may be, MaxHeaderBytes how large its encoded attributes, the reason among them.
const (
	MaxBatch       = 1000
	MaxEventBytes  = 4 << 20
	MaxHeaderBytes = 60 << 10
)

// Subscription is one reader's place in the log. One goroutine uses it.
type Subscription interface {
	// Next returns the events that have arrived, at least one and at most MaxBatch, waiting for the first. It
	// reconnects by itself. Errors: ctx's own, ErrClosed, or ErrGap (only where all subjects are read).
	Next(ctx context.Context) ([]Event, error)
	Close() error
}

// Tunnel carries byte streams from the control plane to nodes over the connection that each node keeps to
// the log, so that a node needs no open port.
type Tunnel interface {
	// Dial opens a stream to a node's listener. ErrUnavailable where the node does not listen.
	Dial(ctx context.Context, node string) (net.Conn, error)
	// Listen accepts the streams dialled to the node. One listener a node.
	Listen(node string) (net.Listener, error)
}
