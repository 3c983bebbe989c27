package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	v1 "k8s.io/api/core/v1"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/node/agent/ladder"
)

// seen is pod.json: the pod as last seen and the desired event that made it so.
type seen struct {
	Pod         *v1.Pod         `json:"pod"`
	Cause       events.Sequence `json:"cause,omitempty"`
	Correlation events.Sequence `json:"correlation,omitempty"`
	TraceParent string          `json:"traceParent,omitempty"`
	// foreign: the pod's status was written by somebody else, so what was reported last may not stand.
	foreign bool
}

// records keeps what is remembered about pods, a folder each.
type records struct{ dir string }

func (r records) podDir(uid string) string { return filepath.Join(r.dir, uid) }

func (r records) containerDir(uid, container string) string {
	return filepath.Join(r.podDir(uid), "containers", container)
}

// writeFile replaces a file as a whole. It is not forced to disk: what it tells of ends with the machine.
func writeFile(path string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if err := os.WriteFile(path+".new", b, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

func (r records) saveRecord(rec *ladder.Record) error {
	return writeFile(filepath.Join(r.podDir(rec.UID), "record.json"), rec)
}

func (r records) savePod(s seen) error {
	dir := r.podDir(string(s.Pod.UID))
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	return writeFile(filepath.Join(dir, "pod.json"), s)
}

// load reads everything about a pod. A folder without pod.json is left over from a crash: known is false.
func (r records) load(uid string) (s seen, rec *ladder.Record, known bool, err error) {
	read := func(name string, to any) (bool, error) {
		b, err := os.ReadFile(filepath.Join(r.podDir(uid), name))
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		if err := json.Unmarshal(b, to); err != nil {
			return false, fmt.Errorf("record of pod %s: %s: %w", uid, name, err)
		}
		return true, nil
	}
	known, err = read("pod.json", &s)
	if err != nil || !known || s.Pod == nil {
		return s, nil, false, err
	}
	rec = &ladder.Record{}
	had, err := read("record.json", rec)
	if err != nil {
		return s, nil, false, err
	}
	if !had {
		rec = nil
	}
	return s, rec, true, nil
}

// status is the last status that was reported of a pod, nil where none is known.
func (r records) status(uid string) *v1.PodStatus {
	b, err := os.ReadFile(filepath.Join(r.podDir(uid), "status.json"))
	if err != nil {
		return nil
	}
	return decodeStatus(b)
}

func (r records) list() ([]string, error) {
	if err := os.MkdirAll(r.dir, 0o750); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(r.dir)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, e := range entries {
		if e.IsDir() {
			out = append(out, e.Name())
		}
	}
	return out, nil
}

func (r records) remove(uid string) error { return os.RemoveAll(r.podDir(uid)) }
