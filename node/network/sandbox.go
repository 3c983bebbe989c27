package network

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// create makes a sandbox for owner, or for the pool if owner names no pod. On failure nothing is left, unless
// undoing fails as well: then the record stays, to be destroyed by the next Setup, Teardown or New.
func (m *Manager) create(ctx context.Context, owner record) (*record, error) {
	r := &owner
	r.ID = newID()
	if err := m.save(r); err != nil {
		return nil, err
	}
	err := createNetNS(m.netnsPath(r.ID))
	if err == nil {
		limited, cancel := context.WithTimeout(ctx, attachTimeout)
		err = m.attach(limited, r)
		cancel()
	}
	if err == nil {
		r.Attached = true
		err = m.save(r)
	}
	if err != nil {
		r.Attached = false
		m.remember(r)
		undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
		defer cancel()
		return nil, errors.Join(err, m.destroy(undo, r))
	}
	m.remember(r)
	return r, nil
}

// destroy undoes create, from wherever it or an earlier destroy stopped. The record goes last.
func (m *Manager) destroy(ctx context.Context, r *record) error {
	if err := m.detach(ctx, r.ID); err != nil {
		return err
	}
	if err := removeNetNS(m.netnsPath(r.ID)); err != nil {
		return err
	}
	if err := m.forget(r.ID); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.pods[r.PodUID] == r {
		delete(m.pods, r.PodUID)
	}
	return nil
}

// remember publishes a record that belongs to a pod; the pool's are published by whoever fills it.
func (m *Manager) remember(r *record) {
	if r.PodUID == "" {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pods[r.PodUID] = r
}

// recover sorts what is on disk: pods' sandboxes are kept as they are (Setup mends them, Teardown removes them),
// whole ones that are nobody's go into the pool, and all else is destroyed, as are namespaces and addresses that
// no record accounts for.
func (m *Manager) recover(ctx context.Context) error {
	records, err := m.loadRecords()
	if err != nil {
		return err
	}
	known := map[string]bool{}
	for _, r := range records {
		known[r.ID] = true
		_, twice := m.pods[r.PodUID]
		switch {
		case r.PodUID != "" && !twice:
			m.remember(r)
		case r.PodUID == "" && r.Attached && pinned(m.netnsPath(r.ID)) && len(m.pool) < m.opts.Pool:
			m.pool = append(m.pool, r)
		default:
			if err := m.destroy(ctx, r); err != nil {
				return fmt.Errorf("%w (left over sandbox %s)", err, r.ID)
			}
		}
	}
	return m.recoverUnknown(ctx, known)
}

// recoverUnknown removes namespaces and addresses whose record was lost.
func (m *Manager) recoverUnknown(ctx context.Context, known map[string]bool) error {
	ids, err := m.reservations()
	if err != nil {
		return err
	}
	pins, err := os.ReadDir(filepath.Join(m.opts.Dir, "netns"))
	if err != nil {
		return fmt.Errorf("network: pinned namespaces: %w", err)
	}
	for _, pin := range pins {
		ids = append(ids, pin.Name())
	}
	for _, id := range ids {
		if known[id] {
			continue
		}
		known[id] = true
		if err := m.destroy(ctx, &record{ID: id}); err != nil {
			return fmt.Errorf("%w (left over sandbox %s)", err, id)
		}
	}
	return nil
}
