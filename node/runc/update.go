package runc

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"
)

// UpdateContainer gives a running container other limits; 0 takes a limit away. CPUSet, PidsLimit and Unified stay
// as they are. On cgroup v1 a memory limit below what is in use is refused; on v2 the kernel would kill for it, so
// look first.
func (r *Runtime) UpdateContainer(ctx context.Context, sandboxID, containerID string, to Resources) error {
	rec, err := r.readSandbox(sandboxID)
	if err != nil {
		return err
	}
	if err := r.cgroups.update(rec.Sandbox.containerCgroup(containerID), to); err != nil {
		return fmt.Errorf("update container %s: %w", containerID, err)
	}
	return ctx.Err()
}

// UpdateSandbox gives a pod as a whole other limits; 0 takes a limit away. Raise it before its containers, lower it
// after them: a part cannot have more than the whole.
func (r *Runtime) UpdateSandbox(ctx context.Context, sandboxID string, to Resources) error {
	rec, err := r.readSandbox(sandboxID)
	if err != nil {
		return err
	}
	if err := r.cgroups.update(rec.Sandbox.cgroup(), to); err != nil {
		return fmt.Errorf("update sandbox %s: %w", sandboxID, err)
	}
	return ctx.Err()
}

// update writes all limits of a cgroup that exists.
func (c cgroups) update(path string, r Resources) error {
	number := func(n int64, none string) string {
		if n == 0 {
			return none
		}
		return strconv.FormatInt(n, 10)
	}
	shares := max(r.CPUShares, 2)
	set := []setting{
		{"cpu", "cpu.shares", strconv.FormatUint(shares, 10)},
		{"cpu", "cpu.cfs_period_us", strconv.FormatUint(period(r), 10)},
		{"cpu", "cpu.cfs_quota_us", number(r.CPUQuota, "-1")},
		{"memory", "memory.limit_in_bytes", number(r.MemoryBytes, "-1")},
	}
	if c.v2 {
		set = []setting{
			{"cpu", "cpu.weight", strconv.FormatUint(weight(shares), 10)},
			{"cpu", "cpu.max", number(r.CPUQuota, "max") + " " + strconv.FormatUint(period(r), 10)},
			{"memory", "memory.max", number(r.MemoryBytes, "max")},
		}
	}
	for _, s := range set {
		at := c.root
		if !c.v2 {
			var ok bool
			if at, ok = c.controllers[s.controller]; !ok {
				return fmt.Errorf("limit %s: the %s controller is not mounted", s.file, s.controller)
			}
		}
		if err := writeSetting(filepath.Join(at, path), s); err != nil {
			return err
		}
	}
	return nil
}
