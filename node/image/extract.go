package image

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Names in a layer that say what it removes from the layers below.
const (
	whiteoutPrefix = ".wh."
	whiteoutOpaque = ".wh..wh..opq" // everything in this directory
	whiteoutMeta   = ".wh..wh."     // bookkeeping of a file system long gone
)

// The same, as overlay mounts say it: a character device 0:0, and an attribute of a directory.
const opaqueAttr = "trusted.overlay.opaque"

// extractor turns the entries of one layer into files under root.
type extractor struct {
	root    int      // O_PATH descriptor of the layer's directory: every path is resolved below it
	parents []string // directories of the layers below, lowest first
	times   []dirTime
}

// dirTime is a directory's own time, set when nothing is put into it any more.
type dirTime struct {
	path string
	time unix.Timespec
}

// extract makes dir and unpacks the archive into it.
func extract(archive *tar.Reader, dir string, parents []string) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return fmt.Errorf("image: %w", err)
	}
	root, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("image: open %s: %w", dir, err)
	}
	defer unix.Close(root)
	x := &extractor{root: root, parents: parents}
	if err := x.inherit(root, ""); err != nil {
		return err
	}
	for {
		h, err := archive.Next()
		if err == io.EOF {
			return x.setTimes()
		}
		if err != nil {
			return corruptUnlessCanceled(err)
		}
		if err := x.entry(h, archive); err != nil {
			return fmt.Errorf("%q: %w", h.Name, err)
		}
	}
}

func corruptUnlessCanceled(err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || ours(err) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrCorrupt, err)
}

// entry unpacks one member of the archive.
func (x *extractor) entry(h *tar.Header, content io.Reader) error {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	name, err := clean(h.Name)
	if err != nil {
		return err
	}
	if name == "" {
		if h.Typeflag != tar.TypeDir {
			return fmt.Errorf("%w: the root is no directory", ErrHostile)
		}
		return x.dress(x.root, ".", h)
	}
	dir, base := path.Split(name)
	parent, err := x.directory(path.Clean("/" + dir)[1:], 0)
	if err != nil {
		return err
	}
	defer unix.Close(parent)
	if strings.HasPrefix(base, whiteoutPrefix) {
		return x.whiteout(parent, base)
	}
	return x.create(parent, base, name, h, content)
}

// clean makes a name relative to the root. A name with ".." is refused even where it stays inside.
func clean(name string) (string, error) {
	for part := range strings.SplitSeq(name, "/") {
		if part == ".." {
			return "", fmt.Errorf("%w: name with \"..\"", ErrHostile)
		}
	}
	return path.Clean("/" + name)[1:], nil
}

// create makes the file and gives it its owner, mode, attributes and time.
func (x *extractor) create(parent int, base, name string, h *tar.Header, content io.Reader) error {
	if h.Typeflag == tar.TypeChar || h.Typeflag == tar.TypeBlock {
		if strings.HasPrefix(name, "dev/") {
			return nil // old images carry a /dev, which every runtime covers with its own
		}
		return fmt.Errorf("%w: device", ErrHostile)
	}
	replacedWhiteout, err := x.clear(parent, base, h.Typeflag == tar.TypeDir)
	if err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeDir:
		if err := unix.Mkdirat(parent, base, 0o700); err != nil && err != unix.EEXIST {
			return fmt.Errorf("image: mkdir: %w", err)
		}
		if replacedWhiteout {
			if err := setOpaque(parent, base); err != nil {
				return err
			}
		}
		x.times = append(x.times, dirTime{name, timespec(h.ModTime)})
	case tar.TypeReg, '\x00':
		if err := writeFile(parent, base, content); err != nil {
			return err
		}
	case tar.TypeSymlink:
		if err := unix.Symlinkat(h.Linkname, parent, base); err != nil {
			return fmt.Errorf("image: symlink: %w", err)
		}
	case tar.TypeLink:
		return x.link(parent, base, h.Linkname) // it shares everything with its target
	case tar.TypeFifo:
		if err := unix.Mknodat(parent, base, unix.S_IFIFO|0o600, 0); err != nil {
			return fmt.Errorf("image: mkfifo: %w", err)
		}
	default:
		return fmt.Errorf("%w: type %q", ErrUnsupported, h.Typeflag)
	}
	return x.dress(parent, base, h)
}

// clear makes way for a new file: in one layer the last of several files of one name counts. A directory stays
// where a directory is to be. It says whether a whiteout was there.
func (x *extractor) clear(parent int, base string, keepDir bool) (whiteout bool, err error) {
	var st unix.Stat_t
	err = unix.Fstatat(parent, base, &st, unix.AT_SYMLINK_NOFOLLOW)
	if err == unix.ENOENT {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("image: stat: %w", err)
	}
	isDir := st.Mode&unix.S_IFMT == unix.S_IFDIR
	if isDir && keepDir {
		return false, nil
	}
	if isDir {
		if err := os.RemoveAll(procPath(parent) + "/" + base); err != nil {
			return false, fmt.Errorf("image: %w", err)
		}
		return false, nil
	}
	if err := unix.Unlinkat(parent, base, 0); err != nil {
		return false, fmt.Errorf("image: unlink: %w", err)
	}
	return st.Mode&unix.S_IFMT == unix.S_IFCHR, nil
}

// whiteout records what this layer removes from those below.
func (x *extractor) whiteout(parent int, base string) error {
	if base == whiteoutOpaque {
		return setOpaque(parent, ".")
	}
	if strings.HasPrefix(base, whiteoutMeta) {
		return nil
	}
	name := strings.TrimPrefix(base, whiteoutPrefix)
	if name == "" || name == "." || name == ".." {
		return fmt.Errorf("%w: whiteout of nothing", ErrHostile)
	}
	err := unix.Mknodat(parent, name, unix.S_IFCHR, 0)
	if err == unix.EEXIST {
		// The layer has a file of that name itself, which covers those below; a directory would show through.
		var st unix.Stat_t
		if err := unix.Fstatat(parent, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return fmt.Errorf("image: stat: %w", err)
		}
		if st.Mode&unix.S_IFMT == unix.S_IFDIR {
			return setOpaque(parent, name)
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("image: whiteout: %w", err)
	}
	return nil
}

// link makes a hard link to a file of the same layer.
func (x *extractor) link(parent int, base, target string) error {
	name, err := clean(target)
	if err != nil {
		return fmt.Errorf("link to %q: %w", target, err)
	}
	dir, file := path.Split(name)
	if file == "" || strings.HasPrefix(file, whiteoutPrefix) {
		return fmt.Errorf("%w: link to %q", ErrHostile, target)
	}
	from, err := x.open(dir)
	if err != nil {
		return fmt.Errorf("%w: link to %q: %w", ErrCorrupt, target, err)
	}
	defer unix.Close(from)
	if err := unix.Linkat(from, file, parent, base, 0); err != nil {
		return fmt.Errorf("%w: link to %q: %w", ErrCorrupt, target, err)
	}
	return nil
}

func writeFile(parent int, base string, content io.Reader) error {
	fd, err := unix.Openat(parent, base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return fmt.Errorf("image: create: %w", err)
	}
	f := os.NewFile(uintptr(fd), base)
	_, err = io.Copy(onlyWriter{f}, content)
	if _, local := errors.AsType[*os.PathError](err); err != nil && !local {
		err = corruptUnlessCanceled(err)
	}
	return errors.Join(err, f.Close())
}

// onlyWriter hides os.File.ReadFrom, which for a tar entry would only add a detour.
type onlyWriter struct{ io.Writer }

// setTimes sets the directories' times, the last thing to be done in them.
func (x *extractor) setTimes() error {
	for _, d := range x.times {
		parent, base := path.Split(d.path)
		fd, err := x.open(parent)
		if err == nil {
			err = unix.UtimesNanoAt(fd, base, []unix.Timespec{d.time, d.time}, unix.AT_SYMLINK_NOFOLLOW)
			unix.Close(fd)
		}
		// A later entry may have replaced the directory.
		if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENOTDIR) {
			return fmt.Errorf("image: time of %s: %w", d.path, err)
		}
	}
	return nil
}

// timespec clamps times to what every file system can keep.
func timespec(t time.Time) unix.Timespec {
	sec := min(max(t.Unix(), 0), 1<<33)
	return unix.Timespec{Sec: sec, Nsec: int64(t.Nanosecond())}
}
