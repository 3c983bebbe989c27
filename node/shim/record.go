package shim

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// WriteStatus writes a container's status file in its folder, whole or not at all. With durable it has reached
// the disk when the call returns: an exit must not be announced and then forgotten.
func WriteStatus(dir string, s Status, durable bool) error {
	data, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("encode status of %s: %w", s.ID, err)
	}
	path := filepath.Join(dir, StatusFile)
	f, err := os.OpenFile(path+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("write status of %s: %w", s.ID, err)
	}
	_, err = f.Write(data)
	if err == nil && durable {
		err = unix.Fdatasync(int(f.Fd()))
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err == nil && durable {
		err = syncDir(dir)
	}
	if err != nil {
		return fmt.Errorf("write status of %s: %w", s.ID, err)
	}
	return nil
}

// ReadStatus reads a container's status file; os.ErrNotExist says that it never got one.
func ReadStatus(dir string) (Status, error) {
	var s Status
	data, err := os.ReadFile(filepath.Join(dir, StatusFile))
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(data, &s); err != nil {
		return s, fmt.Errorf("%s: %w", filepath.Join(dir, StatusFile), err)
	}
	return s, nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
