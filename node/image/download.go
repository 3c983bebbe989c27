package image

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
)

// keepPartial is how long what an interrupted pull has fetched waits for the next try.
const keepPartial = 24 * time.Hour

// download is the blob of a layer on its way into a file. Where the origin can go on in the middle, the file is
// partial/<digest>: it outlives a broken connection, a pull that was given up and the process, and whoever wants the
// same layer next goes on from its end. Its lock keeps others from writing to it meanwhile.
type download struct {
	layer   v1.Descriptor
	file    *os.File
	kept    bool      // the file outlives this pull
	fetched chan bool // receives once: whether all of it is there
}

// beginDownload opens the file that a layer goes into. Two pulls that want the same layer at the same time each fetch
// it: only one of them has the file that is kept.
func (s *Store) beginDownload(o origin, layer v1.Descriptor, stage string) (*download, error) {
	d := &download{layer: layer, fetched: make(chan bool, 1)}
	if _, can := o.(resumer); can {
		f, err := lockPartial(filepath.Join(s.dir, "partial", layer.Digest.Encoded()))
		if err != nil {
			return nil, err
		}
		if f != nil {
			d.file, d.kept = f, true
			return d, nil
		}
	}
	f, err := os.CreateTemp(stage, "blob-")
	if err != nil {
		return nil, fmt.Errorf("image: %w", err)
	}
	d.file = f
	return d, nil
}

// lockPartial opens a file and locks it, nil where another has the lock.
func lockPartial(path string) (*os.File, error) {
	for {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			return nil, fmt.Errorf("image: %w", err)
		}
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if errors.Is(err, unix.EWOULDBLOCK) {
			f.Close()
			return nil, nil
		}
		var st unix.Stat_t
		if err == nil {
			err = unix.Fstat(int(f.Fd()), &st)
		}
		if err != nil {
			f.Close()
			return nil, fmt.Errorf("image: lock %s: %w", path, err)
		}
		if st.Nlink > 0 {
			return f, nil
		}
		f.Close() // its last owner removed it between our opening and our locking it
	}
}

// remove deletes the file: its bytes are unpacked, or worthless.
func (d *download) remove() error {
	if err := os.Remove(d.file.Name()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("image: %w", err)
	}
	return nil
}

// close gives the file back. One that is not kept lies in the pull's own folder and goes with it; an empty one is of
// no use to anybody.
func (d *download) close() {
	if st, err := d.file.Stat(); err == nil && d.kept && st.Size() == 0 {
		os.Remove(d.file.Name()) // where that fails, a later Collect does it
	}
	d.file.Close()
}

// sweepPartial removes what nobody has gone on with for that long. Nobody may be adding.
func (s *Store) sweepPartial(age time.Duration) error {
	dir := filepath.Join(s.dir, "partial")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("image: collect: %w", err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err == nil && time.Since(info.ModTime()) >= age {
			err = os.Remove(filepath.Join(dir, e.Name()))
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("image: collect: %w", err)
		}
	}
	return nil
}
