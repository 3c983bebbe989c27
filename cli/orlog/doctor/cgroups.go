package doctor

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
)

// hierarchies are the mounted cgroup hierarchies.
type hierarchies struct {
	unified string            // where cgroup2 is mounted, "" for nowhere
	v1      map[string]string // controller to mount point
}

// readMounts are the lines of mountinfo, split: mount point, file system type, super options.
func (m *machine) readMounts() ([][3]string, error) {
	text, err := m.read("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	var out [][3]string
	for line := range strings.Lines(text) {
		before, after, found := strings.Cut(strings.TrimSpace(line), " - ")
		left, right := strings.Fields(before), strings.Fields(after)
		if found && len(left) >= 5 && len(right) >= 3 {
			out = append(out, [3]string{strings.ReplaceAll(left[4], `\040`, " "), right[0], right[2]})
		}
	}
	return out, nil
}

func (m *machine) hierarchies() (hierarchies, error) {
	h := hierarchies{v1: map[string]string{}}
	mounts, err := m.readMounts()
	for _, mount := range mounts {
		switch mount[1] {
		case "cgroup2":
			h.unified = mount[0]
		case "cgroup":
			for _, option := range strings.Split(mount[2], ",") {
				if option != "rw" && option != "ro" && !strings.HasPrefix(option, "name=") {
					h.v1[option] = mount[0]
				}
			}
		}
	}
	return h, err
}

// needed are the controllers that pods' limits are made of, and (v1 only) those that runc needs besides.
var (
	needed   = []string{"cpu", "memory", "pids"}
	neededV1 = []string{"devices", "freezer"}
)

func (m *machine) cgroups(context.Context) Finding {
	h, err := m.hierarchies()
	if err != nil {
		return problem(err.Error(), "mount /proc")
	}
	var kind string
	var controllers, want []string
	switch {
	case len(h.v1) > 0:
		kind, controllers, want = "v1", slices.Sorted(maps.Keys(h.v1)), slices.Concat(needed, neededV1)
		if h.unified != "" {
			kind = "v1, with an unified hierarchy beside it"
		}
	case h.unified != "":
		text, err := m.read(filepath.Join(h.unified, "cgroup.controllers"))
		if err != nil {
			return problem(err.Error(), "mount cgroup2 at /sys/fs/cgroup")
		}
		kind, controllers, want = "v2", strings.Fields(text), needed
	default:
		return problem("no hierarchy is mounted", "mount -t cgroup2 none /sys/fs/cgroup")
	}
	var missing []string
	for _, c := range want {
		if !slices.Contains(controllers, c) {
			missing = append(missing, c)
		}
	}
	detail := fmt.Sprintf("%s: %s", kind, strings.Join(controllers, ", "))
	if len(missing) > 0 {
		return problem(fmt.Sprintf("%s; missing: %s", detail, strings.Join(missing, ", ")), "boot with these controllers on (cgroup_enable=memory), or delegate them to this cgroup")
	}
	if m.euid != 0 {
		return ok(detail)
	}
	for _, mount := range slices.Compact(slices.Sorted(maps.Values(h.all()))) {
		if err := m.try.Cgroup(mount); err != nil {
			return problem(fmt.Sprintf("%s; %v", detail, err), "give orlog-agent a cgroup that it may divide (Delegate=yes in its unit), mounted writable")
		}
	}
	return ok(detail)
}

// all are the hierarchies in which a container's cgroup stands.
func (h hierarchies) all() map[string]string {
	out := map[string]string{}
	for _, c := range slices.Concat(needed, neededV1) {
		if at, ok := h.v1[c]; ok {
			out[c] = at
		}
	}
	if len(out) == 0 {
		out["unified"] = h.unified
	}
	return out
}
