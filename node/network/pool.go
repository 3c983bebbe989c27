package network

import (
	"context"
	"time"
)

// Waits between failed attempts to fill the pool: doubled each time, for ever, because Setup works without it.
const (
	refillBackoffMin = 500 * time.Millisecond
	refillBackoffMax = 30 * time.Second
)

// Run keeps Options.Pool sandboxes ready until ctx ends. They are left as they are for the next manager.
func (m *Manager) Run(ctx context.Context) error {
	backoff := refillBackoffMin
	for {
		if !m.poolShort() {
			select {
			case <-m.refill:
			case <-ctx.Done():
				return nil
			}
			continue
		}
		r, err := m.create(ctx, record{})
		if err == nil {
			m.putReady(r)
			backoff = refillBackoffMin
			continue
		}
		if ctx.Err() != nil {
			return nil //nolint:nilerr // it was told to end
		}
		m.opts.Log.Warn("network: cannot prepare a sandbox ahead of need", "error", err, "retry", backoff)
		select {
		case <-time.After(backoff):
		case <-ctx.Done():
			return nil
		}
		backoff = min(2*backoff, refillBackoffMax)
	}
}

// takeReady hands a prepared sandbox to a pod, or returns nil if none is ready. Writing the owner into the record
// is all it takes.
func (m *Manager) takeReady(owner record) *record {
	for {
		spare := m.popReady()
		if spare == nil {
			return nil
		}
		taken := *spare
		taken.PodUID, taken.Namespace, taken.Name = owner.PodUID, owner.Namespace, owner.Name
		if pinned(m.netnsPath(taken.ID)) {
			err := m.save(&taken)
			if err == nil {
				m.remember(&taken)
				return &taken
			}
			m.opts.Log.Warn("network: cannot hand out a prepared sandbox", "id", taken.ID, "error", err)
		}
		// Somebody unmounted it, or the disk is full: the pod gets a new one, or that error.
		undo, cancel := context.WithTimeout(context.Background(), undoTimeout)
		if err := m.destroy(undo, spare); err != nil {
			m.opts.Log.Warn("network: cannot remove a prepared sandbox", "id", spare.ID, "error", err)
		}
		cancel()
	}
}

func (m *Manager) poolShort() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.pool) < m.opts.Pool
}

func (m *Manager) putReady(r *record) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pool = append(m.pool, r)
}

// popReady takes the sandbox that has waited longest out of the pool and asks Run for another.
func (m *Manager) popReady() *record {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.pool) == 0 {
		return nil
	}
	r := m.pool[0]
	m.pool = m.pool[1:]
	select {
	case m.refill <- struct{}{}:
	default:
	}
	return r
}
