package doctor

import (
	"context"
	"os"
	"path/filepath"
	"time"
)

// Status is a finding's weight.
type Status string

// A Warning is worth knowing; with a Problem Orlog does not run, or not safely.
const (
	OK      Status = "ok"
	Warning Status = "warning"
	Problem Status = "problem"
)

// Finding is what one check found.
type Finding struct {
	Check  string `json:"check"`
	Status Status `json:"status"`
	Detail string `json:"detail"`
	// Advice is what to do; "" where all is well.
	Advice string `json:"advice,omitempty"`
}

// Options say what belongs to this machine's Orlog.
type Options struct {
	// DataDir is orlogd's folder, NodeDir the agent's, BinDir that of runc, orlog-shim and cni/.
	DataDir, NodeDir, BinDir string
	// Listen and NATSListen are the host:port of the API and of the log.
	Listen, NATSListen string
	// Bridge, Table (what the names of nftables tables begin with) and CgroupRoot are the agent's.
	Bridge, Table, CgroupRoot string
	// Node: this machine is to run pods too.
	Node bool
	// Gateway asks the cluster for its time: the Date header of an answer. nil: not asked. The address is for
	// messages.
	Gateway        func(ctx context.Context) (time.Time, error)
	GatewayAddress string
}

// machine is what the checks look at.
type machine struct {
	Options
	root string // what comes before /proc and /sys: "" but in tests
	euid int
	now  func() time.Time
	try  attempts
}

// attempts are what only trying can tell. They leave nothing behind.
type attempts interface {
	// Namespaces tries each kind of namespace.
	Namespaces() map[string]error
	// Overlay mounts an overlay whose upper layer is in dir.
	Overlay(dir string) error
	// Links makes a bridge, a veth pair and a VXLAN device.
	Links() map[string]error
	// HasLink reports whether this network namespace has a link.
	HasLink(name string) bool
	// NFT loads rules as the service proxy does.
	NFT(ctx context.Context) (version string, err error)
	// Tables lists the nftables tables of this network namespace, without their families.
	Tables(ctx context.Context) ([]string, error)
	// Cgroup makes a cgroup in a hierarchy.
	Cgroup(mount string) error
	// LowerOOMScore and RaiseLimit use the right to CAP_SYS_RESOURCE.
	LowerOOMScore() error
	RaiseLimit() error
	// Fsync writes and syncs blocks of 4 KiB in dir and returns how long each took, shortest first.
	Fsync(dir string) ([]time.Duration, error)
	// Disk is what the file system of dir has: bytes and inodes, free and in all, and its type.
	Disk(dir string) (disk, error)
	// ClockSync reports whether something keeps the clock in step.
	ClockSync() (bool, error)
	// ClockStep is by how much the wall clock and the monotonic one moved apart while we looked.
	ClockStep() time.Duration
	// Listen tries to listen on a host:port.
	Listen(address string) error
	// Locked reports whether a process holds the lock file.
	Locked(path string) (bool, error)
	// Output runs a program.
	Output(ctx context.Context, env []string, stdin, path string, args ...string) (string, error)
	// Runc checks a runc binary.
	Runc(path string) error
	// Limits are the soft and hard limit of open files.
	Limits() (soft, hard uint64, err error)
}

type disk struct {
	free, size             uint64 // bytes
	freeInodes, sizeInodes uint64
	kind                   string
}

// Run checks this machine.
func Run(ctx context.Context, o Options) []Finding {
	m := &machine{Options: o, euid: os.Geteuid(), now: time.Now, try: &realAttempts{}}
	return m.run(ctx)
}

func (m *machine) run(ctx context.Context) []Finding {
	checks := []struct {
		name     string
		nodeOnly bool
		check    func(ctx context.Context) Finding
	}{
		{"user", false, m.user},
		{"kernel", false, m.kernel},
		{"namespaces", true, m.namespaces},
		{"overlayfs", true, m.overlayfs},
		{"seccomp", true, m.seccomp},
		{"links", true, m.links},
		{"nftables", true, m.nftables},
		{"cgroups", true, m.cgroups},
		{"oom score", true, m.oomScore},
		{"rlimits", true, m.rlimits},
		{"open files", false, m.openFiles},
		{"processes", true, m.processes},
		{"memory", false, m.memory},
		{"disk", false, m.disk},
		{"fsync", false, m.fsync},
		{"clock", false, m.clock},
		{"cluster", false, m.gateway},
		{"port API", false, func(context.Context) Finding { return m.port(m.Listen, "--listen") }},
		{"port log", false, func(context.Context) Finding { return m.port(m.NATSListen, "--nats-listen") }},
		{"ip_forward", true, m.forwarding},
		{"runc", true, m.runc},
		{"orlog-shim", true, m.shim},
		{"CNI plugins", true, m.plugins},
		{"leftovers", true, m.leftovers},
	}
	var out []Finding
	for _, c := range checks {
		if ctx.Err() != nil {
			break
		}
		if c.nodeOnly && !m.Node {
			continue
		}
		f := c.check(ctx)
		f.Check = c.name
		out = append(out, f)
	}
	return out
}

func ok(detail string) Finding { return Finding{Status: OK, Detail: detail} }
func warning(detail, advice string) Finding {
	return Finding{Status: Warning, Detail: detail, Advice: advice}
}
func problem(detail, advice string) Finding {
	return Finding{Status: Problem, Detail: detail, Advice: advice}
}

// needsRoot stands for a check that only root can make.
func needsRoot() Finding {
	return warning("not tried", "run orlog doctor as root")
}

func (m *machine) file(path string) string { return filepath.Join(m.root, path) }

// existing is a folder, or the nearest one above it that is there: where the folder would be made.
func (m *machine) existing(dir string) string {
	for {
		if _, err := os.Stat(m.file(dir)); err == nil {
			return m.file(dir)
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return m.file(dir)
		}
		dir = parent
	}
}

// Worst is the weightiest status among findings.
func Worst(findings []Finding) Status {
	worst := OK
	for _, f := range findings {
		if f.Status == Problem || f.Status == Warning && worst == OK {
			worst = f.Status
		}
	}
	return worst
}
