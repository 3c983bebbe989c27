package runc

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// cgroups is the machine's cgroup set-up: the unified hierarchy alone (v2), or one hierarchy for each
// controller (v1, perhaps with an empty unified one beside them).
type cgroups struct {
	v2          bool
	root        string            // v2 only
	unified     string            // where cgroup2 is mounted, in v2 and beside v1; empty: nowhere
	controllers map[string]string // v1: controller to mount point
	mounts      []string          // every hierarchy in which a container's cgroup may stand
}

// findCgroups reads the set-up from the kernel's list of mounts.
func findCgroups(mountinfo string) (cgroups, error) {
	c := cgroups{controllers: map[string]string{}}
	data, err := os.ReadFile(mountinfo)
	if err != nil {
		return c, fmt.Errorf("find the cgroup mounts: %w", err)
	}
	seen := map[string]bool{}
	for line := range strings.Lines(string(data)) {
		before, after, ok := strings.Cut(strings.TrimSpace(line), " - ")
		left, right := strings.Fields(before), strings.Fields(after)
		if !ok || len(left) < 5 || len(right) < 3 || !strings.HasPrefix(right[0], "cgroup") || seen[left[4]] {
			continue
		}
		at := left[4]
		if right[0] == "cgroup" {
			for option := range strings.SplitSeq(right[2], ",") {
				if _, known := c.controllers[option]; !known && option != "rw" {
					c.controllers[option] = at
				}
			}
		} else {
			c.unified = at
			if at == "/sys/fs/cgroup" {
				c.v2, c.root = true, at
			}
		}
		seen[at] = true
		c.mounts = append(c.mounts, at)
	}
	if len(c.mounts) == 0 {
		return c, errors.New("no cgroup hierarchy is mounted: mount cgroup2 at /sys/fs/cgroup")
	}
	return c, nil
}

// lists are the hierarchies whose cgroup.procs are trusted to name every process of a container.
func (c cgroups) lists() string {
	if c.v2 {
		return c.root
	}
	for _, name := range []string{"pids", "freezer", "memory", "devices"} {
		if at, ok := c.controllers[name]; ok {
			return at
		}
	}
	return c.mounts[0]
}

func (c cgroups) procsFile(path string) string { return filepath.Join(c.lists(), path, "cgroup.procs") }

// oomFile is where the kernel counts a cgroup's OOM kills; empty without a memory controller.
func (c cgroups) oomFile(path string) string {
	if c.v2 {
		return filepath.Join(c.root, path, "memory.events")
	}
	if at, ok := c.controllers["memory"]; ok {
		return filepath.Join(at, path, "memory.oom_control")
	}
	return ""
}
