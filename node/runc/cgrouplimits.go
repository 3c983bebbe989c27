package runc

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

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
