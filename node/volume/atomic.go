package volume

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// A projection looks like this; only the link ..data is ever switched, by rename:
//
//	<dir>/..2026_11_20_14_05_00.1234/key    the files
//	<dir>/..data -> ..2026_11_20_14_05_00.1234
//	<dir>/key -> ..data/key
const dataLink = "..data"

// write makes dir show the files, at once and as a whole; it does nothing where dir shows them already.
func write(dir string, files map[string]file, group int, now time.Time) error {
	current, err := os.Readlink(filepath.Join(dir, dataLink))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("link %s: %w", dataLink, err)
	}
	if current != "" && same(filepath.Join(dir, current), files, group) {
		return nil
	}
	next, err := os.MkdirTemp(dir, ".."+now.UTC().Format("2006_01_02_15_04_05")+".*")
	if err != nil {
		return err
	}
	if err := fill(next, files, group); err != nil {
		return errors.Join(err, os.RemoveAll(next))
	}
	tmp := filepath.Join(dir, dataLink+"_tmp")
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Symlink(filepath.Base(next), tmp); err != nil {
		return err
	}
	if err := os.Rename(tmp, filepath.Join(dir, dataLink)); err != nil {
		return err
	}
	if err := links(dir, files); err != nil {
		return err
	}
	if group >= 0 {
		if err := ownDir(dir, group, false); err != nil {
			return err
		}
	}
	return sweep(dir, filepath.Base(next))
}

// fill writes the files into a new folder.
func fill(dir string, files map[string]file, group int) error {
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	for path, f := range files {
		full := filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(full, f.data, 0o600); err != nil {
			return err
		}
		mode := fs.FileMode(f.mode & 0o777)
		if group >= 0 {
			mode |= 0o440
		}
		if f.owner >= 0 || group >= 0 {
			if err := os.Chown(full, f.owner, group); err != nil {
				return err
			}
		}
		if err := os.Chmod(full, mode); err != nil { // past the umask
			return err
		}
	}
	if group < 0 {
		return nil
	}
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		return ownDir(path, group, false)
	})
}

// same tells whether a folder holds just these files.
func same(dir string, files map[string]file, group int) bool {
	seen := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		f, want := files[rel]
		info, errInfo := d.Info()
		data, errData := os.ReadFile(path)
		mode := fs.FileMode(f.mode & 0o777)
		if group >= 0 {
			mode |= 0o440
		}
		if !want || errInfo != nil || errData != nil || !bytes.Equal(data, f.data) || info.Mode().Perm() != mode {
			return errors.New("differs")
		}
		seen++
		return nil
	})
	return err == nil && seen == len(files)
}

// links makes the visible names, one for each first path element, and removes those that are no more.
func links(dir string, files map[string]file) error {
	want := map[string]bool{}
	for path := range files {
		first, _, _ := strings.Cut(path, "/")
		want[first] = true
	}
	for name := range want {
		err := os.Symlink(filepath.Join(dataLink, name), filepath.Join(dir, name))
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), "..") && !want[e.Name()] {
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// sweep removes the folders of former versions.
func sweep(dir, keep string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() && strings.HasPrefix(e.Name(), "..") && e.Name() != keep {
			if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}
