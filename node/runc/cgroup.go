package runc

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
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

// create makes the pod's cgroup with its limits. Without limits there is nothing to do: runc makes the parents
// of a container's cgroup by itself.
func (c cgroups) create(path string, r Resources) error {
	if r.CPUShares == 0 && r.CPUQuota == 0 && r.MemoryBytes == 0 && r.PidsLimit == 0 {
		return nil
	}
	if c.v2 {
		return c.createV2(path, r)
	}
	return c.createV1(path, r)
}

type setting struct{ controller, file, value string }

func period(r Resources) uint64 {
	if r.CPUPeriod == 0 {
		return 100000
	}
	return r.CPUPeriod
}

func (c cgroups) createV1(path string, r Resources) error {
	var set []setting
	if r.CPUShares != 0 {
		set = append(set, setting{"cpu", "cpu.shares", strconv.FormatUint(r.CPUShares, 10)})
	}
	if r.CPUQuota != 0 {
		set = append(set, setting{"cpu", "cpu.cfs_period_us", strconv.FormatUint(period(r), 10)},
			setting{"cpu", "cpu.cfs_quota_us", strconv.FormatInt(r.CPUQuota, 10)})
	}
	if r.MemoryBytes != 0 {
		set = append(set, setting{"memory", "memory.limit_in_bytes", strconv.FormatInt(r.MemoryBytes, 10)})
	}
	if r.PidsLimit != 0 {
		set = append(set, setting{"pids", "pids.max", strconv.FormatInt(r.PidsLimit, 10)})
	}
	for _, s := range set {
		at, ok := c.controllers[s.controller]
		if !ok {
			return fmt.Errorf("pod limit %s: the %s controller is not mounted", s.file, s.controller)
		}
		if err := writeSetting(filepath.Join(at, path), s); err != nil {
			return err
		}
	}
	return nil
}

func writeSetting(dir string, s setting) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("pod cgroup: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, s.file), []byte(s.value), 0o644); err != nil {
		return fmt.Errorf("pod limit %s=%s: %w", s.file, s.value, err)
	}
	return nil
}

func (c cgroups) createV2(path string, r Resources) error {
	// A controller works in a cgroup only where every ancestor passes it on.
	dir := c.root
	for _, part := range strings.Split(strings.Trim(path, "/"), "/") {
		for _, controller := range []string{"cpu", "memory", "pids"} {
			if err := os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+"+controller), 0o644); err != nil {
				return fmt.Errorf("pod cgroup: enable %s below %s: %w", controller, dir, err)
			}
		}
		dir = filepath.Join(dir, part)
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("pod cgroup: %w", err)
		}
	}
	var set []setting
	if r.CPUShares != 0 {
		set = append(set, setting{"cpu", "cpu.weight", strconv.FormatUint(weight(r.CPUShares), 10)})
	}
	if r.CPUQuota != 0 {
		set = append(set, setting{"cpu", "cpu.max", fmt.Sprintf("%d %d", r.CPUQuota, period(r))})
	}
	if r.MemoryBytes != 0 {
		set = append(set, setting{"memory", "memory.max", strconv.FormatInt(r.MemoryBytes, 10)})
	}
	if r.PidsLimit != 0 {
		set = append(set, setting{"pids", "pids.max", strconv.FormatInt(r.PidsLimit, 10)})
	}
	for _, s := range set {
		if err := writeSetting(dir, s); err != nil {
			return err
		}
	}
	return nil
}

// weight maps cpu.shares (2..262144, 1024 by default) to cpu.weight (1..10000, 100 by default) by the curve that
// runc uses for containers, so that a pod and its containers are weighed alike.
func weight(shares uint64) uint64 {
	switch {
	case shares <= 2:
		return 1
	case shares >= 262144:
		return 10000
	}
	l := math.Log2(float64(shares))
	return uint64(math.Ceil(math.Pow(10, (l*l+125*l)/612-7.0/34)))
}

// kill kills every process in a cgroup and below it and returns when none is left.
func (c cgroups) kill(ctx context.Context, path string) error {
	dir := filepath.Join(c.lists(), path)
	for wait := time.Millisecond; ; wait = min(2*wait, 100*time.Millisecond) {
		if c.v2 {
			// One write for the whole tree (kernel 5.14); the walk below is for older kernels and waits.
			_ = os.WriteFile(filepath.Join(dir, "cgroup.kill"), []byte("1"), 0o200)
		}
		left, err := killTree(dir)
		if err != nil {
			return fmt.Errorf("kill the processes in %s: %w", dir, err)
		}
		if left == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("kill the processes in %s: %d left: %w", dir, left, ctx.Err())
		case <-time.After(wait):
		}
	}
}

func killTree(dir string) (found int, err error) {
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) || err == nil && d.Name() != "cgroup.procs" {
			return nil
		}
		if err != nil {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENODEV) && !errors.Is(err, unix.EOPNOTSUPP) {
			return err
		}
		for _, field := range strings.Fields(string(data)) {
			if pid, err := strconv.Atoi(field); err == nil && pid > 1 {
				found++
				unix.Kill(pid, unix.SIGKILL)
			}
		}
		return nil
	})
	return found, err
}

// remove takes a cgroup and those below it away, in every hierarchy.
func (c cgroups) remove(ctx context.Context, path string) error {
	for _, at := range c.mounts {
		dir := filepath.Join(at, path)
		for wait := time.Millisecond; ; wait = min(2*wait, 100*time.Millisecond) {
			err := removeTree(dir)
			if err == nil {
				break
			}
			if !errors.Is(err, unix.EBUSY) {
				return fmt.Errorf("remove cgroup: %w", err)
			}
			// The last process has ended but the kernel is not done with it.
			select {
			case <-ctx.Done():
				return fmt.Errorf("remove cgroup: %w (%w)", err, ctx.Err())
			case <-time.After(wait):
			}
		}
	}
	return nil
}

func removeTree(dir string) error {
	err := unix.Rmdir(dir)
	if err == nil || errors.Is(err, unix.ENOENT) {
		return nil
	}
	entries, rerr := os.ReadDir(dir)
	if errors.Is(rerr, fs.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := removeTree(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	if err = unix.Rmdir(dir); err != nil && !errors.Is(err, unix.ENOENT) {
		return &fs.PathError{Op: "rmdir", Path: dir, Err: err}
	}
	return nil
}
