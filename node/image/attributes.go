package image

import (
	"archive/tar"
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// maxLinks is how many symbolic links one name may lead through.
const maxLinks = 40

// open opens a directory of the layer. Links in the path stay below the root, whatever they point to.
func (x *extractor) open(dir string) (int, error) {
	return unix.Openat2(x.root, "./"+dir, &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
}

// directory opens a directory that an entry lies in. One that the archive does not mention exists in a layer below:
// it is made here with the owner, mode and attributes it has there.
func (x *extractor) directory(dir string, links int) (int, error) {
	fd, err := x.open(dir)
	if err == nil {
		return fd, nil
	}
	if !errors.Is(err, unix.ENOENT) || dir == "" || links > maxLinks {
		return -1, fmt.Errorf("%w: directory %q: %w", ErrCorrupt, dir, err)
	}
	above, base := path.Split(dir)
	parent, err := x.directory(strings.TrimSuffix(above, "/"), links)
	if err != nil {
		return -1, err
	}
	defer unix.Close(parent)
	err = unix.Mkdirat(parent, base, 0o755)
	if errors.Is(err, unix.EEXIST) {
		// A link to a directory that exists only below, as /var/run is.
		target := make([]byte, unix.PathMax)
		n, err := unix.Readlinkat(parent, base, target)
		if err != nil {
			return -1, fmt.Errorf("%w: %q is no directory", ErrCorrupt, dir)
		}
		to := string(target[:n])
		if !path.IsAbs(to) {
			to = path.Join("/", above, to)
		}
		return x.directory(path.Clean(to)[1:], links+1)
	}
	if err != nil {
		return -1, fmt.Errorf("image: mkdir %s: %w", dir, err)
	}
	if fd, err = x.open(dir); err != nil {
		return -1, fmt.Errorf("image: open %s: %w", dir, err)
	}
	if err := x.inherit(fd, dir); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// inherit gives the directory behind fd what the same directory has in the nearest layer below.
func (x *extractor) inherit(fd int, dir string) error {
	for i := len(x.parents) - 1; i >= 0; i-- {
		st, err := statBelow(x.parents[i], dir)
		if errors.Is(err, unix.ENOENT) {
			continue
		}
		if errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENOTDIR) || err == nil && st.Mode&unix.S_IFMT != unix.S_IFDIR {
			break // removed or replaced there: this is a new directory
		}
		if err != nil {
			return fmt.Errorf("image: directory %s of the layer below: %w", dir, err)
		}
		if err := unix.Chown(procPath(fd), int(st.Uid), int(st.Gid)); err != nil {
			return fmt.Errorf("image: chown: %w", err)
		}
		return chmod(procPath(fd), st.Mode&0o7777)
	}
	return chmod(procPath(fd), 0o755)
}

// statBelow looks at a name in another layer without following any link in it.
func statBelow(layer, name string) (st unix.Stat_t, err error) {
	root, err := unix.Open(layer, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return st, err
	}
	defer unix.Close(root)
	fd, err := unix.Openat2(root, "./"+name, &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS,
	})
	if err != nil {
		return st, err
	}
	defer unix.Close(fd)
	err = unix.Fstat(fd, &st)
	return st, err
}

// dress gives a new file its owner, mode, attributes and time, in the order in which one does not undo the other.
func (x *extractor) dress(parent int, base string, h *tar.Header) error {
	if h.Uid < 0 || h.Gid < 0 {
		return fmt.Errorf("%w: owner %d:%d", ErrHostile, h.Uid, h.Gid)
	}
	if err := unix.Fchownat(parent, base, h.Uid, h.Gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("image: chown: %w", err)
	}
	if h.Typeflag != tar.TypeSymlink {
		fd, err := unix.Openat(parent, base, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("image: open: %w", err)
		}
		defer unix.Close(fd)
		if err := chmod(procPath(fd), uint32(h.Mode)&0o7777); err != nil {
			return err
		}
		if err := setAttributes(procPath(fd), h.PAXRecords); err != nil {
			return err
		}
	}
	when := timespec(h.ModTime)
	if err := unix.UtimesNanoAt(parent, base, []unix.Timespec{when, when}, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("image: time: %w", err)
	}
	return nil
}

// setAttributes sets the extended attributes that images may have: file capabilities, access lists and users' own.
// Those of this host's security modules and of other trusted programs are not an image's to set; those that steer
// overlay mounts could make a layer reach into another.
func setAttributes(file string, records map[string]string) error {
	for key, value := range records {
		name, ok := strings.CutPrefix(key, "SCHILY.xattr.")
		if !ok {
			continue
		}
		switch {
		case strings.HasPrefix(name, "trusted.overlay.") || strings.HasPrefix(name, "user.overlay."):
			return fmt.Errorf("%w: attribute %s", ErrHostile, name)
		case name == "security.capability" || strings.HasPrefix(name, "user.") || strings.HasPrefix(name, "system.posix_acl_"):
			err := unix.Setxattr(file, name, []byte(value), 0)
			if err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
				return fmt.Errorf("image: attribute %s: %w", name, err)
			}
		}
	}
	return nil
}

// setOpaque hides what the layers below have in a directory.
func setOpaque(parent int, base string) error {
	fd, err := unix.Openat(parent, base, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("image: open: %w", err)
	}
	defer unix.Close(fd)
	if err := unix.Setxattr(procPath(fd), opaqueAttr, []byte("y"), 0); err != nil {
		return fmt.Errorf("image: opaque directory: %w", err)
	}
	return nil
}

func chmod(file string, mode uint32) error {
	if err := unix.Chmod(file, mode); err != nil {
		return fmt.Errorf("image: chmod: %w", err)
	}
	return nil
}

// procPath names an open file, for calls that take no descriptor.
func procPath(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }
