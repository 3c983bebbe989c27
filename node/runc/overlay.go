package runc

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	rootfsDir = "rootfs"
	upperDir  = "upper"
	workDir   = "work"

	volatile = ",volatile"
)

// mountOverlay mounts the layers (lowest first) with a writable one above them at dir/rootfs.
func mountOverlay(dir string, layers []string) error {
	for _, sub := range []string{rootfsDir, upperDir, workDir} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			return fmt.Errorf("overlay: %w", err)
		}
	}
	for _, l := range layers {
		if st, err := os.Stat(l); err != nil {
			return fmt.Errorf("overlay: layer: %w", err)
		} else if !st.IsDir() {
			return fmt.Errorf("overlay: layer %s is not a folder", l)
		}
	}
	if err := likeTop(filepath.Join(dir, upperDir), layers[len(layers)-1]); err != nil {
		return fmt.Errorf("overlay: %w", err)
	}
	data := overlayOptions(dir, layers)
	if len(data) < os.Getpagesize()-len(volatile) {
		return mountData(filepath.Join(dir, rootfsDir), data)
	}
	// The options must fit in a page: name the layers by short links, through a descriptor of the folder they
	// are in. The kernel resolves the names while it mounts and has no use for them later.
	if err := linkLayers(dir, layers); err != nil {
		return fmt.Errorf("overlay: %w", err)
	}
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("overlay: %s: %w", dir, err)
	}
	defer unix.Close(fd)
	here := "/proc/self/fd/" + strconv.Itoa(fd)
	short := make([]string, len(layers))
	for i := range layers {
		short[i] = here + "/" + linkName(i)
	}
	data = overlayOptions(here, short)
	if len(data) >= os.Getpagesize()-len(volatile) {
		return fmt.Errorf("overlay: %d layers are too many", len(layers))
	}
	return mountData(filepath.Join(dir, rootfsDir), data)
}

// likeTop gives the writable layer's root, which is the container's, the owner and mode of the image's.
func likeTop(upper, layer string) error {
	var st unix.Stat_t
	if err := unix.Stat(layer, &st); err != nil {
		return fmt.Errorf("layer %s: %w", layer, err)
	}
	if err := os.Chown(upper, int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	return unix.Chmod(upper, st.Mode&0o7777)
}

// linkName is short and cannot be that of anything else in a container's folder.
func linkName(layer int) string { return "." + strconv.FormatInt(int64(layer), 36) }

// overlayOptions are the mount options; overlayfs wants the uppermost layer first.
func overlayOptions(dir string, layers []string) string {
	escape := strings.NewReplacer(`\`, `\\`, `:`, `\:`, `,`, `\,`)
	var b strings.Builder
	b.WriteString("lowerdir=")
	for i := len(layers) - 1; i >= 0; i-- {
		b.WriteString(escape.Replace(layers[i]))
		if i > 0 {
			b.WriteByte(':')
		}
	}
	plain := strings.NewReplacer(`\`, `\\`, `,`, `\,`)
	b.WriteString(",upperdir=" + plain.Replace(filepath.Join(dir, upperDir)))
	b.WriteString(",workdir=" + plain.Replace(filepath.Join(dir, workDir)))
	return b.String()
}

// mountData mounts an overlay. "volatile" spares the flush of the writable layer when it is unmounted: the layer
// is thrown away with its container, and a container does not survive the machine. Kernels before 5.10 refuse it.
func mountData(target, data string) error {
	err := unix.Mount("overlay", target, "overlay", 0, data+volatile)
	if errors.Is(err, unix.EINVAL) {
		err = unix.Mount("overlay", target, "overlay", 0, data)
	}
	if err != nil {
		return fmt.Errorf("overlay: mount at %s: %w", target, err)
	}
	return nil
}

func linkLayers(dir string, layers []string) error {
	for i, l := range layers {
		if err := os.Symlink(l, filepath.Join(dir, linkName(i))); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	return nil
}

// unmount takes every mount at path away, however many are stacked there; none is fine.
func unmount(path string) error {
	for {
		err := unix.Unmount(path, unix.UMOUNT_NOFOLLOW)
		if errors.Is(err, unix.EBUSY) {
			err = unix.Unmount(path, unix.UMOUNT_NOFOLLOW|unix.MNT_DETACH)
		}
		switch {
		case err == nil:
		case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOENT):
			return nil
		default:
			return fmt.Errorf("unmount %s: %w", path, err)
		}
	}
}

// unmountBelow takes away whatever is mounted in dir, as a last look before its files are removed.
func unmountBelow(dir string) error {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	var found []string
	for line := range strings.Lines(string(data)) {
		fields := strings.Fields(line)
		if len(fields) > 4 {
			if at := unescapeMount(fields[4]); strings.HasPrefix(at, dir+"/") {
				found = append(found, at)
			}
		}
	}
	for i := len(found) - 1; i >= 0; i-- {
		if err := unmount(found[i]); err != nil {
			return err
		}
	}
	return nil
}

// unescapeMount undoes the octal escapes of mountinfo.
func unescapeMount(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}
