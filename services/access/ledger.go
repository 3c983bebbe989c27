package access

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/projections"
	"github.com/orlog-io/orlog/services/access/request"
)

// Ledger is who may come in, and who may not any more. Make it with New and run it; its other methods may be
// called from many goroutines.
type Ledger struct {
	store  *projections.Store
	logger *slog.Logger

	mu      sync.Mutex
	state   state
	changed chan struct{} // closed and replaced at every change
}

// New makes an empty ledger over a projection that keeps history.
func New(store *projections.Store, logger *slog.Logger) *Ledger {
	return &Ledger{store: store, logger: logger, state: newState(), changed: make(chan struct{})}
}

// Run folds until ctx ends (nil), or the projection fails.
func (l *Ledger) Run(ctx context.Context) error {
	w := l.store.Watch(0, projections.Selector{Group: request.Group, Resource: request.Resource})
	defer w.Close()
	for {
		batch, err := w.Next(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("access: %w", err)
		}
		l.fold(batch)
	}
}

// CatchUp folds what the projection holds now, before Run does again: so that nobody is let in, or kept out,
// by what is known to be over. Call it when the projection has read the log.
func (l *Ledger) CatchUp(ctx context.Context) error {
	w := l.store.Watch(0, projections.Selector{Group: request.Group, Resource: request.Resource})
	defer w.Close()
	to := l.store.Position()
	for w.Position() < to {
		w.Wake()
		batch, err := w.Next(ctx)
		if err != nil {
			return fmt.Errorf("access: %w", err)
		}
		l.fold(batch)
	}
	return nil
}

func (l *Ledger) fold(batch []projections.Change) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var moved bool
	for _, c := range batch {
		ok, err := l.state.apply(c)
		if err != nil {
			// Upstream's validation lets no such object in. One that came otherwise grants nothing.
			l.logger.Warn("a certificate signing request that is none", events.LogSequence, c.Event.Sequence, events.LogError, err)
		}
		moved = moved || ok
	}
	if moved {
		close(l.changed)
		l.changed = make(chan struct{})
	}
}

// Changed is closed when the ledger is not as it was any more.
func (l *Ledger) Changed() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.changed
}

// Revoked reports whether a key, in PKIX form, has been revoked.
func (l *Ledger) Revoked(publicKeyInfo []byte) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state.revoked[request.IDOf(publicKeyInfo)]
}

// ForLog lists the living requests that are addressed to the log's signers, by name. Of those that are
// Approved and not Revoked the keys are let in; Revoked is true also where another request with the key was.
func (l *Ledger) ForLog() []request.Entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []request.Entry
	for _, e := range l.state.entries {
		if e.ForLog() {
			e.Revoked = e.Revoked || l.state.revoked[e.ID]
			out = append(out, e)
		}
	}
	slices.SortFunc(out, func(a, b request.Entry) int { return strings.Compare(a.Request, b.Request) })
	return out
}

// state is what is folded.
type state struct {
	at      events.Sequence
	entries map[string]request.Entry // living requests by name
	revoked map[request.KeyID]bool   // for ever
}

func newState() state {
	return state{entries: map[string]request.Entry{}, revoked: map[request.KeyID]bool{}}
}

// apply folds one change, and reports whether it changed anything. What was folded already is left alone.
func (s *state) apply(c projections.Change) (bool, error) {
	if c.Event.Sequence <= s.at {
		return false, nil
	}
	s.at = c.Event.Sequence
	name := c.Event.Subject.Key.Name
	e, err := request.Read(c.Next.Object)
	if err != nil {
		delete(s.entries, name)
		return true, err
	}
	was, known := s.entries[name]
	if e.Revoked {
		s.revoked[e.ID] = true
	}
	if c.Event.IsDeletion() {
		delete(s.entries, name)
		return known, nil
	}
	s.entries[name] = e
	return !known || !same(was, e), nil
}

func same(a, b request.Entry) bool {
	return slices.Equal(a.Key, b.Key) && a.Request == b.Request && a.Signer == b.Signer && a.Name == b.Name && a.ID == b.ID &&
		a.Approved == b.Approved && a.Revoked == b.Revoked && a.InForce == b.InForce && a.ApprovedFor == b.ApprovedFor && a.Refusal == b.Refusal
}
