package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
)

// SubPath gives a container one path inside a volume: it resolves path below root so that nothing leads out of
// it, makes missing folders, and binds what it finds to a place of its own, so that a later switch of a symbolic
// link changes nothing. index tells the mounts of a container apart. A place that an earlier attempt of the
// container used is bound anew.
func (m *Manager) SubPath(pod *v1.Pod, volume, container string, index int, root, path string) (string, error) {
	fail := func(err error) (string, error) {
		return "", fmt.Errorf("subPath %q of volume %q: %w", path, volume, err)
	}
	if !filepath.IsLocal(path) {
		return fail(errors.New("must be relative and must not contain '..'"))
	}
	fd, err := openBeneath(root, path, fsGroup(pod))
	if err != nil {
		return fail(err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fail(err)
	}
	place := filepath.Join(m.podDir(string(pod.UID)), "volume-subpaths", volume, container, strconv.Itoa(index))
	if err := unmountUnder(place); err != nil {
		return fail(err)
	}
	if err := os.RemoveAll(place); err != nil {
		return fail(err)
	}
	if err := os.MkdirAll(filepath.Dir(place), 0o750); err != nil {
		return fail(err)
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		err = os.Mkdir(place, 0o750)
	} else {
		err = touch(place)
	}
	if err != nil {
		return fail(err)
	}
	if err := unix.Mount("/proc/self/fd/"+strconv.Itoa(fd), place, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fail(fmt.Errorf("binding: %w", err))
	}
	return place, nil
}

// openBeneath opens path below root, making what is missing as folders. The kernel refuses to leave root.
func openBeneath(root, path string, group int) (int, error) {
	base, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("opening %s: %w", root, err)
	}
	defer unix.Close(base)
	how := &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS}
	fd, err := unix.Openat2(base, path, how)
	if !errors.Is(err, fs.ErrNotExist) {
		return fd, wrapEscape(err)
	}
	parts := strings.Split(filepath.Clean(path), "/")
	for i := range parts {
		if err := makeBeneath(base, filepath.Join(parts[:i]...), parts[i], how, group); err != nil {
			return -1, wrapEscape(err)
		}
	}
	fd, err = unix.Openat2(base, path, how)
	return fd, wrapEscape(err)
}

// makeBeneath makes the folder name in parent (below base), unless something of that name is there.
func makeBeneath(base int, parent, name string, how *unix.OpenHow, group int) error {
	dir := base
	if parent != "" {
		fd, err := unix.Openat2(base, parent, how)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		dir = fd
	}
	err := unix.Mkdirat(dir, name, 0o750)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	// As the volume's own folder: everybody may use it, and the pod's group owns it.
	var st unix.Stat_t
	if err := unix.Fstat(dir, &st); err != nil {
		return err
	}
	if group >= 0 {
		st.Gid = uint32(group)
	}
	if err := unix.Fchownat(dir, name, int(st.Uid), int(st.Gid), unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	return unix.Fchmodat(dir, name, st.Mode&0o7777, 0)
}

func wrapEscape(err error) error {
	if errors.Is(err, unix.EXDEV) {
		return fmt.Errorf("leads out of the volume: %w", err)
	}
	return err
}
