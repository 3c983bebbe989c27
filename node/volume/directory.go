package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// emptyDir makes a folder that everybody may write to, on disk or in memory.
func emptyDir(dir string, v *v1.EmptyDirVolumeSource, pod *v1.Pod) error {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	mode := fs.FileMode(0o777)
	switch v.Medium {
	case v1.StorageMediumDefault:
	case v1.StorageMediumMemory:
		mode |= fs.ModeSticky // as the kubelet leaves it, which takes a tmpfs as it comes
		if err := mountTmpfs(dir, sizeOption(v.SizeLimit, pod)); err != nil {
			return err
		}
	default:
		return fmt.Errorf("%w: emptyDir.medium %q", ErrUnsupported, v.Medium)
	}
	if err := os.Chmod(dir, mode); err != nil { // past the umask
		return err
	}
	if group := fsGroup(pod); group >= 0 {
		return ownDir(dir, group, true)
	}
	return nil
}

// sizeOption limits a folder in memory by its own limit and by the memory that the pod may use.
func sizeOption(limit *resource.Quantity, pod *v1.Pod) string {
	size := int64(0)
	if limit != nil {
		size = limit.Value()
	}
	memory := int64(0)
	for i := range pod.Spec.Containers {
		l, has := pod.Spec.Containers[i].Resources.Limits[v1.ResourceMemory]
		if !has {
			memory = 0
			break
		}
		memory += l.Value()
	}
	if memory > 0 && (size <= 0 || memory < size) {
		size = memory
	}
	if size <= 0 {
		return ""
	}
	return fmt.Sprintf("size=%d", size)
}

// fsGroup is the pod's group for volumes, -1 for none.
func fsGroup(pod *v1.Pod) int {
	if sc := pod.Spec.SecurityContext; sc != nil && sc.FSGroup != nil {
		return int(*sc.FSGroup)
	}
	return -1
}

// ownDir gives a folder to a group; its new files will be the group's too.
func ownDir(dir string, group int, writable bool) error {
	if err := os.Chown(dir, -1, group); err != nil {
		return err
	}
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	mode := info.Mode()&(fs.ModePerm|fs.ModeSticky|fs.ModeSetuid) | 0o550 | fs.ModeSetgid
	if writable {
		mode |= 0o770
	}
	return os.Chmod(dir, mode)
}

// hostPath checks, or makes, what a pod wants to see of the node.
func hostPath(v *v1.HostPathVolumeSource) error {
	if !filepath.IsAbs(v.Path) {
		return fmt.Errorf("hostPath %q: must be absolute", v.Path)
	}
	kind := v1.HostPathUnset
	if v.Type != nil {
		kind = *v.Type
	}
	info, err := os.Stat(v.Path)
	missing := errors.Is(err, fs.ErrNotExist)
	switch kind {
	case v1.HostPathUnset:
		if missing { // as container runtimes do: a bind mount needs its source
			return os.MkdirAll(v.Path, 0o755)
		}
		return err
	case v1.HostPathDirectoryOrCreate:
		if missing {
			return os.MkdirAll(v.Path, 0o755)
		}
	case v1.HostPathFileOrCreate:
		if missing {
			return touch(v.Path)
		}
	}
	if err != nil {
		return fmt.Errorf("hostPath type check failed: %w", err)
	}
	is := info.Mode()
	var ok bool
	var what string
	switch kind {
	case v1.HostPathDirectory, v1.HostPathDirectoryOrCreate:
		ok, what = is.IsDir(), "a directory"
	case v1.HostPathFile, v1.HostPathFileOrCreate:
		ok, what = is.IsRegular(), "a file"
	case v1.HostPathSocket:
		ok, what = is&fs.ModeSocket != 0, "a socket file"
	case v1.HostPathCharDev:
		ok, what = is&fs.ModeCharDevice != 0, "a character device"
	case v1.HostPathBlockDev:
		ok, what = is&fs.ModeDevice != 0 && is&fs.ModeCharDevice == 0, "a block device"
	default:
		return fmt.Errorf("hostPath type %q: unknown", kind)
	}
	if !ok {
		return fmt.Errorf("hostPath type check failed: %s is not %s", v.Path, what)
	}
	return nil
}

func touch(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return err
	}
	return f.Close()
}
