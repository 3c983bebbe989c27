package runc

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// surroundings are what a container's spec needs to know of the pod and the machine.
type surroundings struct {
	sandbox     Sandbox
	podDir      string
	shimPID     int // holds the pod's UTS and IPC namespaces
	pausePID    int // holds the shared PID namespace, 0 without
	targetPID   int // is in the PID namespace to join, 0 for none
	cgroup      string
	cgroupV2    bool
	own         capabilitySet
	oomScoreMin int
	devices     func() ([]specs.LinuxDevice, error) // of the host, for privileged containers
	exists      func(path string) bool              // on the host, in /proc and /sys
}

// buildSpec writes down a container in the OCI's words. It depends on nothing but its arguments and, for a
// Localhost seccomp profile or a device, the file named.
func buildSpec(c Container, s surroundings) (*specs.Spec, error) {
	caps, err := capabilities(c.Security, s.own)
	if err != nil {
		return nil, fmt.Errorf("container %s (%s): %w", c.ID, c.Name, err)
	}
	oom := max(c.OOMScoreAdj, s.oomScoreMin)
	spec := &specs.Spec{
		Version: "1.1.0",
		Root:    &specs.Root{Path: rootfsDir, Readonly: c.Security.ReadOnlyRoot},
		Mounts:  mounts(c, s),
		Process: &specs.Process{
			Terminal: c.TTY, Args: c.Args, Env: environment(c.Env, c.TTY), Cwd: c.Cwd,
			User:            specs.User{UID: c.UID, GID: c.GID, AdditionalGids: groups(c)},
			Capabilities:    &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps},
			NoNewPrivileges: !c.Security.AllowPrivilegeEscalation && !c.Security.Privileged,
			OOMScoreAdj:     &oom,
		},
		Linux: &specs.Linux{
			Namespaces:        namespaces(s),
			CgroupsPath:       path.Join(s.cgroup, c.ID),
			Resources:         resources(c, s.cgroupV2),
			Sysctl:            maps.Clone(s.sandbox.Sysctls),
			RootfsPropagation: rootPropagation(c.Mounts),
		},
	}
	if spec.Process.Cwd == "" {
		spec.Process.Cwd = "/"
	}
	if err := confine(spec, c, s, caps); err != nil {
		return nil, fmt.Errorf("container %s (%s): %w", c.ID, c.Name, err)
	}
	return spec, nil
}

// groups are a process's additional ones. Its own is among them: a program that sets its group aside, to see what
// it may still do, must not gain what "others" may (CVE-2022-36109).
func groups(c Container) []uint32 {
	if slices.Contains(c.Groups, c.GID) {
		return c.Groups
	}
	return append([]uint32{c.GID}, c.Groups...)
}

// confine sets what a privileged container does without: seccomp, hidden paths, the short list of devices.
func confine(spec *specs.Spec, c Container, s surroundings, caps []string) error {
	var err error
	if spec.Linux.Devices, err = hostDevices(c.Devices); err != nil {
		return err
	}
	if c.Security.Privileged {
		spec.Linux.Resources.Devices = []specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}}
		all, err := s.devices()
		if err != nil {
			return err
		}
		spec.Linux.Devices = append(all, spec.Linux.Devices...)
		return nil
	}
	spec.Linux.Resources.Devices = append([]specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}},
		deviceRules(spec.Linux.Devices, c.Devices)...)
	// What this kernel does not have need not be hidden: runc would search for each in turn, safely and slowly.
	spec.Linux.MaskedPaths, spec.Linux.ReadonlyPaths = filter(defaultMasked, s.exists), filter(defaultReadonly, s.exists)
	if c.Security.MaskedPaths != nil {
		spec.Linux.MaskedPaths = c.Security.MaskedPaths
	}
	if c.Security.ReadonlyPaths != nil {
		spec.Linux.ReadonlyPaths = c.Security.ReadonlyPaths
	}
	switch profile := c.Security.Seccomp; {
	case profile == SeccompRuntimeDefault:
		spec.Linux.Seccomp = defaultSeccomp(caps)
	case strings.HasPrefix(profile, seccompLocalhost):
		if spec.Linux.Seccomp, err = readSeccomp(strings.TrimPrefix(profile, seccompLocalhost)); err != nil {
			return err
		}
	}
	return nil
}

func filter(paths []string, keep func(string) bool) []string {
	kept := []string{}
	for _, p := range paths {
		if keep(p) {
			kept = append(kept, p)
		}
	}
	return kept
}

// environment gives a program the PATH it expects, and TERM on a terminal, where nobody has.
func environment(env []string, tty bool) []string {
	has := func(name string) bool {
		return slices.ContainsFunc(env, func(kv string) bool { return strings.HasPrefix(kv, name+"=") })
	}
	var first []string
	if !has("PATH") {
		first = append(first, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
	}
	if tty && !has("TERM") {
		first = append(first, "TERM=xterm")
	}
	return append(first, env...)
}

func namespaces(s surroundings) []specs.LinuxNamespace {
	of := func(pid int, name string) string { return "/proc/" + strconv.Itoa(pid) + "/ns/" + name }
	list := []specs.LinuxNamespace{{Type: specs.MountNamespace}}
	if s.sandbox.NetNS != "" {
		list = append(list, specs.LinuxNamespace{Type: specs.NetworkNamespace, Path: s.sandbox.NetNS},
			specs.LinuxNamespace{Type: specs.UTSNamespace, Path: of(s.shimPID, "uts")})
	}
	if !s.sandbox.HostIPC {
		list = append(list, specs.LinuxNamespace{Type: specs.IPCNamespace, Path: of(s.shimPID, "ipc")})
	}
	switch {
	case s.sandbox.HostPID:
	case s.targetPID != 0:
		list = append(list, specs.LinuxNamespace{Type: specs.PIDNamespace, Path: of(s.targetPID, "pid")})
	case s.pausePID != 0:
		list = append(list, specs.LinuxNamespace{Type: specs.PIDNamespace, Path: of(s.pausePID, "pid")})
	default:
		list = append(list, specs.LinuxNamespace{Type: specs.PIDNamespace})
	}
	if s.cgroupV2 {
		list = append(list, specs.LinuxNamespace{Type: specs.CgroupNamespace})
	}
	return list
}

// resources are a container's limits; runc translates them for cgroup v1 and v2.
func resources(c Container, v2 bool) *specs.LinuxResources {
	r := c.Resources
	out := &specs.LinuxResources{}
	if r.CPUShares != 0 || r.CPUQuota != 0 || r.CPUPeriod != 0 || r.CPUSet != "" {
		out.CPU = &specs.LinuxCPU{Cpus: r.CPUSet, Shares: orNil(r.CPUShares), Quota: orNil(r.CPUQuota), Period: orNil(r.CPUPeriod)}
		if r.CPUQuota != 0 {
			p := period(r)
			out.CPU.Period = &p
		}
	}
	out.Memory = &specs.LinuxMemory{Limit: orNil(r.MemoryBytes)}
	if v2 {
		// As the kubelet does: when one process is killed for memory, all of the container are; and no swap
		// beside the memory that was asked for.
		out.Unified = map[string]string{"memory.oom.group": "1"}
		if r.MemoryBytes != 0 {
			out.Memory.Swap = orNil(r.MemoryBytes)
		}
		maps.Copy(out.Unified, r.Unified)
	}
	if r.PidsLimit != 0 {
		out.Pids = &specs.LinuxPids{Limit: &r.PidsLimit}
	}
	return out
}

func orNil[T comparable](v T) *T {
	var zero T
	if v == zero {
		return nil
	}
	return &v
}

// rootPropagation is what the strongest of the mounts needs.
func rootPropagation(mounts []Mount) string {
	strongest := ""
	for _, m := range mounts {
		switch m.Propagation {
		case PropagationBidirectional:
			return "rshared"
		case PropagationHostToContainer:
			strongest = "rslave"
		}
	}
	return strongest
}
