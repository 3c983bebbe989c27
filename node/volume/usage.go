package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
)

// Exceeded tells which emptyDir of a pod holds more than its size limit, "" for none. Memory-backed ones are limited
// by the kernel.
func (m *Manager) Exceeded(pod *v1.Pod) (name string, limit string, err error) {
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		if v.EmptyDir == nil || v.EmptyDir.Medium != v1.StorageMediumDefault || v.EmptyDir.SizeLimit == nil || v.EmptyDir.SizeLimit.Sign() <= 0 {
			continue
		}
		used, err := DiskUsage(m.volumeDir(string(pod.UID), v.Name))
		if err != nil {
			return "", "", fmt.Errorf("volume %q: %w", v.Name, err)
		}
		if used > v.EmptyDir.SizeLimit.Value() {
			return v.Name, v.EmptyDir.SizeLimit.String(), nil
		}
	}
	return "", "", nil
}

// DiskUsage is how many bytes of disk a folder takes, without what is mounted into it. What vanishes meanwhile does
// not count.
func DiskUsage(dir string) (total int64, err error) {
	var root unix.Stat_t
	if err := unix.Lstat(dir, &root); err != nil {
		return 0, err
	}
	seen := map[uint64]bool{} // hard links count once
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		var st unix.Stat_t
		if err == nil {
			err = unix.Lstat(path, &st)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if st.Dev != root.Dev {
			if d.IsDir() {
				return filepath.SkipDir
			}
			return nil
		}
		if st.Nlink > 1 && !d.IsDir() {
			if seen[st.Ino] {
				return nil
			}
			seen[st.Ino] = true
		}
		total += st.Blocks * 512
		return nil
	})
	return total, err
}
