package network

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
)

// record is what the manager remembers of one sandbox, kept as Dir/sandboxes/<ID>.json.
//
// It is not synced to disk: namespaces die with the kernel, so it has to survive the process only. After a power
// loss the addresses that no readable record accounts for are released by New.
type record struct {
	ID        string       `json:"id"`  // also the CNI container ID and the name of the pinned namespace
	PodUID    string       `json:"uid"` // "" while it waits in the pool
	Namespace string       `json:"namespace,omitempty"`
	Name      string       `json:"name,omitempty"`
	Attached  bool         `json:"attached"` // everything below is known and the sandbox is usable
	IPs       []netip.Addr `json:"ips,omitempty"`
	MAC       string       `json:"mac,omitempty"`
}

const recordSuffix = ".json"

// newID makes a name for a sandbox: not the pod's, because sandboxes are made before their pods are known and a
// pod may need a second one after a reboot.
func newID() string {
	var b [8]byte
	rand.Read(b[:])
	return "orlog-" + hex.EncodeToString(b[:])
}

func (m *Manager) recordPath(id string) string {
	return filepath.Join(m.opts.Dir, "sandboxes", id+recordSuffix)
}

func (m *Manager) netnsPath(id string) string { return filepath.Join(m.opts.Dir, "netns", id) }

// save writes a record so that a reader sees the old one or the new one.
func (m *Manager) save(r *record) error {
	data, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("network: sandbox %s: %w", r.ID, err)
	}
	path := m.recordPath(r.ID)
	if err := os.WriteFile(path+".tmp", data, 0o600); err != nil {
		return fmt.Errorf("network: sandbox record: %w", err)
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		return fmt.Errorf("network: sandbox record: %w", err)
	}
	return nil
}

// forget removes a record; one that is not there is fine.
func (m *Manager) forget(id string) error {
	if err := os.Remove(m.recordPath(id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("network: sandbox record: %w", err)
	}
	return nil
}

// loadRecords reads all records. One that cannot be read becomes a record of nobody's, not attached, so that the
// caller destroys what may exist under its ID.
func (m *Manager) loadRecords() ([]*record, error) {
	entries, err := os.ReadDir(filepath.Join(m.opts.Dir, "sandboxes"))
	if err != nil {
		return nil, fmt.Errorf("network: sandbox records: %w", err)
	}
	var out []*record
	for _, e := range entries {
		id, ok := strings.CutSuffix(e.Name(), recordSuffix)
		if !ok { // a temporary of save, left by a crash: the record beside it counts
			if err := os.Remove(filepath.Join(m.opts.Dir, "sandboxes", e.Name())); err != nil {
				return nil, fmt.Errorf("network: sandbox record: %w", err)
			}
			continue
		}
		data, err := os.ReadFile(m.recordPath(id))
		if err != nil {
			return nil, fmt.Errorf("network: sandbox record: %w", err)
		}
		r := new(record)
		if err := json.Unmarshal(data, r); err != nil || r.ID != id {
			m.opts.Log.Warn("network: unreadable sandbox record: removing its sandbox", "id", id, "error", err)
			r = &record{ID: id}
		}
		out = append(out, r)
	}
	return out, nil
}
