package runc

import (
	"path/filepath"
	"sort"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// What of /proc and /sys a container may not see, and what it may not write, as with Docker and containerd.
var (
	defaultMasked = []string{
		"/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
		"/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware",
		"/sys/devices/virtual/powercap",
	}
	defaultReadonly = []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
)

// mounts are the usual ones, then the container's own, which replace a usual one at the same place.
func mounts(c Container, s surroundings) []specs.Mount {
	mode := "ro"
	if c.Security.Privileged {
		mode = "rw"
	}
	shm := filepath.Join(s.podDir, shmDir)
	if s.sandbox.HostIPC {
		shm = "/dev/shm"
	}
	usual := []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
		{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", mode}},
		{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"nosuid", "noexec", "nodev", "relatime", mode}},
		{Destination: "/dev/shm", Type: "bind", Source: shm, Options: []string{"rbind", "rw", "nosuid", "nodev", "noexec"}},
	}
	if s.sandbox.Hostname != "" && s.sandbox.NetNS != "" {
		usual = append(usual, specs.Mount{
			Destination: "/etc/hostname", Type: "bind", Source: filepath.Join(s.podDir, hostnameFile),
			Options: []string{"rbind", "rprivate", fileMode(c)},
		})
	}
	replaced := map[string]bool{}
	for _, m := range c.Mounts {
		replaced[filepath.Clean(m.Target)] = true
	}
	var out []specs.Mount
	for _, m := range usual {
		if !replaced[m.Destination] {
			out = append(out, m)
		}
	}
	return append(out, ownMounts(c.Mounts)...)
}

// fileMode is that of the files which the node makes for a container: writable, as with other runtimes, unless the
// whole root is not.
func fileMode(c Container) string {
	if c.Security.ReadOnlyRoot {
		return "ro"
	}
	return "rw"
}

// ownMounts translates a container's mounts, outer ones before those inside them.
func ownMounts(own []Mount) []specs.Mount {
	sorted := append([]Mount(nil), own...)
	sort.SliceStable(sorted, func(i, j int) bool { return depth(sorted[i].Target) < depth(sorted[j].Target) })
	var out []specs.Mount
	for _, m := range sorted {
		out = append(out, ownMount(m))
	}
	return out
}

func depth(path string) int { return strings.Count(filepath.Clean(path), "/") }

func ownMount(m Mount) specs.Mount {
	out := specs.Mount{Destination: m.Target, Source: m.Source, Type: m.Type, Options: append([]string(nil), m.Options...)}
	if m.Type == "" || m.Type == "bind" {
		out.Type = "bind"
		propagation := map[Propagation]string{
			PropagationHostToContainer: "rslave", PropagationBidirectional: "rshared",
		}[m.Propagation]
		if propagation == "" {
			propagation = "rprivate"
		}
		out.Options = append([]string{"rbind", propagation}, out.Options...)
	}
	switch {
	case m.ReadOnly && m.RecursiveReadOnly:
		out.Options = append(out.Options, "rro")
	case m.ReadOnly:
		out.Options = append(out.Options, "ro")
	case out.Type == "bind":
		out.Options = append(out.Options, "rw")
	}
	return out
}
