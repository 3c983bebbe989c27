package runc

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// MountedLayers tells which of the given directories something is mounted on: a container's overlay, by its long or
// short names, or an image that is a volume. It asks the kernel alone, so that any process may.
func MountedLayers(layers []string) (map[string]bool, error) {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("mounted layers: %w", err)
	}
	return mountedLayers(string(mounts), layers), nil
}

// mountedLayers looks through a mountinfo for the layers. They are known by their last names, which are digests: a
// bind mount is listed by its path in its own file system, which need not be the one it is reached by.
func mountedLayers(mounts string, layers []string) map[string]bool {
	names := map[string][]string{}
	for _, l := range layers {
		names[filepath.Base(l)] = append(names[filepath.Base(l)], l)
	}
	used := map[string]bool{}
	mark := func(path string) {
		for _, l := range names[filepath.Base(path)] {
			used[l] = true
		}
	}
	for line := range strings.Lines(mounts) {
		before, after, _ := strings.Cut(strings.TrimSpace(line), " - ")
		left, right := strings.Fields(before), strings.Fields(after)
		if len(left) < 5 || len(right) < 3 {
			continue
		}
		mark(unescapeMount(left[3]))
		if right[0] != "overlay" {
			continue
		}
		for option := range strings.SplitSeq(right[2], ",") {
			list, is := strings.CutPrefix(option, "lowerdir=")
			if !is {
				list, is = strings.CutPrefix(option, "lowerdir+=")
			}
			if !is {
				continue
			}
			for path := range strings.SplitSeq(list, ":") {
				if strings.HasPrefix(path, "/proc/self/fd/") {
					// A short name, of a link that lies beside the place of the mount: see mountOverlay.
					link, err := os.Readlink(filepath.Join(filepath.Dir(unescapeMount(left[4])), filepath.Base(path)))
					if err != nil {
						continue // the container is being removed
					}
					path = link
				}
				mark(unescapeMount(path))
			}
		}
	}
	return used
}
