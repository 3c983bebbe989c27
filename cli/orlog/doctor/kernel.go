package doctor

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
)

func (m *machine) user(context.Context) Finding {
	if m.euid != 0 {
		return problem(fmt.Sprintf("uid %d: containers need namespaces, cgroups and nftables", m.euid), "run orlogd, orlog-agent and orlog doctor as root")
	}
	return ok("root")
}

// Kernels: pidfds, which the shim waits by, came with 5.3; overlays without sync with 5.10.
const (
	oldestKernel = 5*1000 + 3
	goodKernel   = 5*1000 + 10
)

func (m *machine) kernel(context.Context) Finding {
	release, err := m.read("/proc/sys/kernel/osrelease")
	if err != nil {
		return problem(err.Error(), "mount /proc")
	}
	parts := strings.SplitN(release, ".", 3)
	version := 0
	if len(parts) >= 2 {
		major, err1 := strconv.Atoi(parts[0])
		minor, err2 := strconv.Atoi(strings.TrimRightFunc(parts[1], func(r rune) bool { return r < '0' || r > '9' }))
		if err1 == nil && err2 == nil {
			version = major*1000 + minor
		}
	}
	detail := "Linux " + release
	switch {
	case version == 0:
		return warning(detail+": not a version that I know", "make sure that it is 5.10 or newer")
	case version < oldestKernel:
		return problem(detail, "upgrade the kernel to 5.10 or newer; before 5.3 there are no pidfds, by which containers are watched")
	case version < goodKernel:
		return warning(detail, "upgrade the kernel to 5.10 or newer; older ones are not tested")
	}
	return ok(detail)
}

func (m *machine) read(path string) (string, error) {
	b, err := os.ReadFile(m.file(path))
	return strings.TrimSpace(string(b)), err
}

// failures are the errors of several attempts, in one line; "" where there are none.
func failures(of map[string]error) string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(of)) {
		if of[name] != nil {
			out = append(out, fmt.Sprintf("%s: %v", name, of[name]))
		}
	}
	return strings.Join(out, "; ")
}

func (m *machine) namespaces(context.Context) Finding {
	if m.euid != 0 {
		return needsRoot()
	}
	tried := m.try.Namespaces()
	if text := failures(tried); text != "" {
		return problem(text, "use a kernel with all namespaces (CONFIG_NAMESPACES), and not inside a container that may not make them")
	}
	return ok(strings.Join(slices.Sorted(maps.Keys(tried)), ", "))
}

func (m *machine) overlayfs(context.Context) Finding {
	if m.euid != 0 {
		return needsRoot()
	}
	dir := m.existing(m.NodeDir)
	if err := m.try.Overlay(dir); err != nil {
		return problem(fmt.Sprintf("%s: %v", dir, err), "load the module (modprobe overlay), and keep the node's --data-dir on ext4 or xfs, not on an overlay or a network file system")
	}
	return ok("mounts in " + dir)
}

func (m *machine) seccomp(context.Context) Finding {
	actions, err := m.read("/proc/sys/kernel/seccomp/actions_avail")
	if err != nil {
		return problem("the kernel has no seccomp filters", "use a kernel with CONFIG_SECCOMP_FILTER: pods' RuntimeDefault profile needs it")
	}
	if !slices.Contains(strings.Fields(actions), "errno") {
		return problem("seccomp has only: "+actions, "use a kernel with CONFIG_SECCOMP_FILTER")
	}
	return ok("filters: " + actions)
}

func (m *machine) links(context.Context) Finding {
	if m.euid != 0 {
		return needsRoot()
	}
	tried := m.try.Links()
	vxlan := tried["vxlan"]
	delete(tried, "vxlan")
	if text := failures(tried); text != "" {
		return problem(text, "load the modules: modprobe bridge veth")
	}
	if vxlan != nil {
		return warning(fmt.Sprintf("bridge and veth work; vxlan: %v", vxlan), "modprobe vxlan, if pods are to reach those of other nodes across a router")
	}
	return ok("bridge, veth, vxlan")
}

func (m *machine) nftables(ctx context.Context) Finding {
	if m.euid != 0 {
		return needsRoot()
	}
	version, err := m.try.NFT(ctx)
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return problem("nft is not installed", "apt-get install nftables")
	case err != nil:
		return problem(err.Error(), "modprobe nf_tables nft_chain_nat nft_masq, and use nftables 1.0.1 or newer")
	}
	return ok(version)
}

func (m *machine) oomScore(context.Context) Finding {
	if err := m.try.LowerOOMScore(); err != nil {
		return warning("may not be lowered: the OOM killer treats critical pods as any other", "give the agent CAP_SYS_RESOURCE, where the machine allows that")
	}
	return ok("may be lowered")
}

func (m *machine) rlimits(context.Context) Finding {
	if err := m.try.RaiseLimit(); err != nil {
		return warning("may not be raised: containers get this process's limits at most", "give the agent CAP_SYS_RESOURCE, where the machine allows that")
	}
	return ok("may be raised")
}
