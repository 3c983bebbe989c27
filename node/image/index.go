package image

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
)

// index is what index.json holds: the images that are whole.
type index struct {
	Images []entry `json:"images"`
}

// entry is one name of an image; an image may have several, or one entry without a name.
type entry struct {
	Ref      string          `json:"ref,omitempty"` // normalised; "" if it was loaded without a name
	ID       digest.Digest   `json:"id"`            // of the configuration
	Manifest digest.Digest   `json:"manifest"`
	Digest   digest.Digest   `json:"digest"` // what Ref resolved to: an index's digest, or Manifest
	Size     int64           `json:"size"`   // bytes of configuration and layers as they came
	Chain    []digest.Digest `json:"chain"`  // chain IDs of the layers, lowest first
	Added    time.Time       `json:"added"`
	Pulled   bool            `json:"pulled,omitempty"` // from a registry, which could give it again
}

func (s *Store) readIndex() (*index, error) {
	data, err := os.ReadFile(filepath.Join(s.dir, "index.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return &index{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("image: index: %w", err)
	}
	x := new(index)
	if err := json.Unmarshal(data, x); err != nil {
		return nil, fmt.Errorf("image: index.json: %w: remove it, and load or pull the images again", err)
	}
	return x, nil
}

// changeIndex lets change edit the newest index and writes it back durably, alone among all processes.
func (s *Store) changeIndex(change func(*index) error) error {
	unlock, err := s.lockIndex()
	if err != nil {
		return err
	}
	defer unlock()
	x, err := s.readIndex()
	if err != nil {
		return err
	}
	if err := change(x); err != nil {
		return err
	}
	slices.SortStableFunc(x.Images, func(a, b entry) int {
		return strings.Compare(a.Ref+" "+a.ID.String(), b.Ref+" "+b.ID.String())
	})
	data, err := json.MarshalIndent(x, "", " ")
	if err != nil {
		return fmt.Errorf("image: index: %w", err)
	}
	return writeDurably(s.dir, "index.json", data)
}

// put adds an entry. A name moves to the newest image that claims it; the old one stays if it has another name,
// and without a name no image is kept twice.
func (x *index) put(e entry) {
	x.Images = slices.DeleteFunc(x.Images, func(old entry) bool {
		return old.Ref == e.Ref && (e.Ref != "" || old.ID == e.ID)
	})
	x.Images = append(x.Images, e)
}

// writeDurably replaces dir/name so that it holds data or what it held before, power loss included.
func writeDurably(dir, name string, data []byte) error {
	f, err := os.CreateTemp(dir, name+".tmp-")
	if err != nil {
		return fmt.Errorf("image: %w", err)
	}
	defer os.Remove(f.Name()) // gone already if all went well
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("image: write %s: %w", name, err)
	}
	if err := os.Rename(f.Name(), filepath.Join(dir, name)); err != nil {
		return fmt.Errorf("image: write %s: %w", name, err)
	}
	return syncDir(dir)
}

// syncDir makes the names in a directory durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("image: %w", err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("image: sync %s: %w", dir, err)
	}
	return nil
}
