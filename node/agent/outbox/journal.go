package outbox

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// journal is a file of JSON lines: a report that was put, or the IDs of reports that are done with. A torn last
// line (power loss within a write) is cut off: its Put never returned.
type journal struct {
	path    string
	file    *os.File
	size    int64
	pending map[string]Report
	order   []string
}

type line struct {
	Put  *Report  `json:"put,omitempty"`
	Done []string `json:"done,omitempty"`
}

// rewriteAt is the size from which a journal that holds mostly struck lines is written anew.
const rewriteAt = 1 << 20

func openJournal(dir string) (*journal, []Report, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, nil, fmt.Errorf("outbox folder: %w", err)
	}
	j := &journal{path: filepath.Join(dir, "journal"), pending: map[string]Report{}}
	if err := j.read(); err != nil {
		return nil, nil, err
	}
	if err := j.rewrite(); err != nil {
		return nil, nil, err
	}
	var out []Report
	for _, id := range j.order {
		out = append(out, j.pending[id])
	}
	return j, out, nil
}

func (j *journal) read() error {
	f, err := os.Open(j.path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("outbox journal: %w", err)
	}
	defer f.Close()
	r := bufio.NewReader(f)
	for {
		b, err := r.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return nil // a last line without its end is torn
		}
		if err != nil {
			return fmt.Errorf("outbox journal: %w", err)
		}
		var l line
		if err := json.Unmarshal(b, &l); err != nil {
			return fmt.Errorf("outbox journal %s is damaged (move it away to lose the unsent reports): %w", j.path, err)
		}
		j.apply(l)
	}
}

func (j *journal) apply(l line) {
	for _, id := range l.Done {
		delete(j.pending, id)
	}
	if l.Put != nil {
		if _, known := j.pending[l.Put.ID]; !known {
			j.order = append(j.order, l.Put.ID)
		}
		j.pending[l.Put.ID] = *l.Put
	}
}

// write makes a report durable; the reports named in gone are done with.
func (j *journal) write(r Report, gone []string) error {
	if err := j.append(line{Put: &r, Done: gone}); err != nil {
		return err
	}
	if err := unix.Fdatasync(int(j.file.Fd())); err != nil {
		return fmt.Errorf("outbox journal: sync: %w", err)
	}
	return nil
}

// strike notes that a report is done with. It is not synced: a strike that is lost makes the report be sent
// again, with the same event ID.
func (j *journal) strike(id string) error {
	if err := j.append(line{Done: []string{id}}); err != nil {
		return err
	}
	if j.size > rewriteAt && (len(j.pending) == 0 || j.size > 64*rewriteAt) {
		return j.rewrite()
	}
	return nil
}

func (j *journal) append(l line) error {
	b, err := json.Marshal(l)
	if err != nil {
		return fmt.Errorf("outbox journal: %w", err)
	}
	n, err := j.file.Write(append(b, '\n'))
	if err != nil {
		return fmt.Errorf("outbox journal: %w", err)
	}
	j.size += int64(n)
	j.apply(l)
	return nil
}

// rewrite replaces the journal by one that holds the pending reports only.
func (j *journal) rewrite() error {
	tmp, err := os.OpenFile(j.path+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("outbox journal: %w", err)
	}
	old, pending, order := j.file, j.pending, j.order
	j.file, j.size, j.order, j.pending = tmp, 0, nil, map[string]Report{}
	for _, id := range order {
		if r, live := pending[id]; live {
			if err := j.append(line{Put: &r}); err != nil {
				return errors.Join(err, tmp.Close())
			}
		}
	}
	if err := tmp.Sync(); err != nil {
		return errors.Join(fmt.Errorf("outbox journal: sync: %w", err), tmp.Close())
	}
	if err := os.Rename(j.path+".new", j.path); err != nil {
		return errors.Join(fmt.Errorf("outbox journal: %w", err), tmp.Close())
	}
	if old != nil {
		return old.Close()
	}
	return nil
}

func (j *journal) close() error { return j.file.Close() }
