package doctor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// fakes answer as a test says; the zero value is a machine on which everything works.
type fakes struct {
	namespaces, links map[string]error
	overlay, nft      error
	cgroup            error
	capability        error
	fsyncs            []time.Duration
	disk              disk
	unsynced          bool
	step              time.Duration
	listen            map[string]error
	locked            bool
	output            map[string]string
	runcError         error
	hard              uint64
	hasLink           bool
	tables            []string
}

func (f *fakes) Namespaces() map[string]error             { return f.namespaces }
func (f *fakes) Overlay(string) error                     { return f.overlay }
func (f *fakes) Links() map[string]error                  { return f.links }
func (f *fakes) HasLink(string) bool                      { return f.hasLink }
func (f *fakes) NFT(context.Context) (string, error)      { return "nftables v1.0.6", f.nft }
func (f *fakes) Cgroup(string) error                      { return f.cgroup }
func (f *fakes) LowerOOMScore() error                     { return f.capability }
func (f *fakes) RaiseLimit() error                        { return f.capability }
func (f *fakes) Fsync(string) ([]time.Duration, error)    { return f.fsyncs, nil }
func (f *fakes) Disk(string) (disk, error)                { return f.disk, nil }
func (f *fakes) ClockSync() (bool, error)                 { return !f.unsynced, nil }
func (f *fakes) ClockStep() time.Duration                 { return f.step }
func (f *fakes) Listen(address string) error              { return f.listen[address] }
func (f *fakes) Locked(string) (bool, error)              { return f.locked, nil }
func (f *fakes) Runc(string) error                        { return f.runcError }
func (f *fakes) Limits() (uint64, uint64, error)          { return 1024, f.hard, nil }
func (f *fakes) Tables(context.Context) ([]string, error) { return f.tables, nil }
func (f *fakes) Output(_ context.Context, _ []string, _, path string, _ ...string) (string, error) {
	out, known := f.output[filepath.Base(path)]
	if !known {
		return "", fmt.Errorf("%s: no such file or directory", path)
	}
	return out, nil
}

var testNow = time.Date(2026, 11, 21, 10, 30, 0, 0, time.UTC)

// healthy is a machine without a fault; files are put over its own.
func healthy(t *testing.T, files map[string]string) (*machine, *fakes) {
	t.Helper()
	root := t.TempDir()
	f := &fakes{
		namespaces: map[string]error{"mnt": nil, "net": nil, "pid": nil}, links: map[string]error{"bridge": nil, "veth": nil, "vxlan": nil},
		fsyncs: []time.Duration{90 * time.Microsecond, 100 * time.Microsecond, 2 * time.Millisecond},
		disk:   disk{free: 50 << 30, size: 100 << 30, freeInodes: 90, sizeInodes: 100, kind: "ext4"}, hard: 1 << 20,
		output: map[string]string{"runc": "runc version 1.5.2\nspec: 1.3.0", "bridge": `{"supportedVersions":["1.0.0"]}`, "host-local": `{"supportedVersions":["1.0.0"]}`},
	}
	m := &machine{root: root, now: func() time.Time { return testNow }, try: f, Options: Options{
		DataDir: "/var/lib/orlog", NodeDir: "/var/lib/orlog/node", BinDir: "/usr/bin", Listen: "0.0.0.0:6443", NATSListen: "127.0.0.1:4222",
		Bridge: "orlog0", Table: "orlog", CgroupRoot: "/orlog", Node: true, GatewayAddress: "cluster:6443",
		Gateway: func(context.Context) (time.Time, error) { return testNow, nil },
	}}
	all := map[string]string{
		"/proc/sys/kernel/osrelease":                                       "6.12.1-amd64",
		"/proc/sys/kernel/seccomp/actions_avail":                           "kill_process errno allow",
		"/proc/sys/kernel/pid_max":                                         "4194304",
		"/proc/sys/net/ipv4/ip_forward":                                    "1",
		"/proc/meminfo":                                                    "MemTotal:  8388608 kB\nMemAvailable: 4194304 kB\n",
		"/proc/self/mountinfo":                                             "31 23 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
		"/sys/fs/cgroup/cgroup.controllers":                                "cpuset cpu io memory pids",
		"/sys/devices/system/clocksource/clocksource0/current_clocksource": "tsc",
		"/usr/bin/orlog-shim":                                              "program",
		"/var/lib/orlog/.keep":                                             "",
	}
	for path, text := range files {
		all[path] = text
	}
	for path, text := range all {
		if text == "-" {
			continue
		}
		at := filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			t.Fatal(err)
		}
		if target, link := strings.CutPrefix(text, "-> "); link {
			if err := os.Symlink(target, at); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := os.WriteFile(at, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return m, f
}

func run(t *testing.T, m *machine) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, f := range m.run(t.Context()) {
		text := fmt.Sprintf("%s: %s", f.Status, f.Detail)
		if f.Advice != "" {
			text += " -> " + f.Advice
		}
		out[f.Check] = strings.ReplaceAll(text, m.root, "")
		if (f.Status == OK) != (f.Advice == "") {
			t.Errorf("%s: %s: advice and status do not fit", f.Check, out[f.Check])
		}
	}
	return out
}

func TestHealthyMachine(t *testing.T) {
	m, _ := healthy(t, nil)
	want := map[string]string{
		"user": "root", "kernel": "Linux 6.12.1-amd64", "namespaces": "mnt, net, pid", "overlayfs": "mounts in /var/lib/orlog",
		"seccomp": "filters: kill_process errno allow", "links": "bridge, veth, vxlan", "nftables": "nftables v1.0.6",
		"cgroups": "v2: cpuset, cpu, io, memory, pids", "oom score": "may be lowered", "rlimits": "may be raised", "open files": "1024, at most 1048576",
		"processes": "pid_max 4194304", "memory": "8GiB, 4GiB available", "disk": "50GiB free of 100GiB in /var/lib/orlog (ext4)",
		"fsync": "4 KiB in /var/lib/orlog: median 100µs, worst 2ms", "clock": "source tsc; kept in step", "cluster": "cluster:6443 answers; its clock is in step with ours",
		"port API": "0.0.0.0:6443 is free", "port log": "127.0.0.1:4222 is free", "ip_forward": "on", "runc": "1.5.2, with seccomp",
		"orlog-shim": "/usr/bin/orlog-shim", "CNI plugins": "bridge, host-local", "leftovers": "none",
	}
	got := run(t, m)
	for check, detail := range want {
		if got[check] != "ok: "+detail {
			t.Errorf("%s: %q, want ok: %q", check, got[check], detail)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d checks, want %d: %v", len(got), len(want), got)
	}
	m.Node = false
	if got := run(t, m); len(got) != 10 || got["runc"] != "" {
		t.Errorf("without a node: %d checks: %v", len(got), got)
	}
}

func TestFindings(t *testing.T) {
	const v1 = "1 0 0:1 / /c/cpu rw - cgroup cgroup rw,cpu,cpuacct\n2 0 0:2 / /c/memory rw - cgroup cgroup rw,memory\n3 0 0:3 / /c/pids rw - cgroup cgroup rw,pids\n4 0 0:4 / /c/systemd rw - cgroup cgroup rw,name=systemd\n"
	for name, c := range map[string]struct {
		files map[string]string
		sick  func(*machine, *fakes)
		check string
		want  string
	}{
		"no root":          {sick: func(m *machine, _ *fakes) { m.euid = 1000 }, check: "user", want: "problem: uid 1000"},
		"not tried":        {sick: func(m *machine, _ *fakes) { m.euid = 1000 }, check: "nftables", want: "warning: not tried"},
		"ancient kernel":   {files: map[string]string{"/proc/sys/kernel/osrelease": "4.18.0-553.el8"}, check: "kernel", want: "problem: Linux 4.18.0-553.el8 -> upgrade"},
		"old kernel":       {files: map[string]string{"/proc/sys/kernel/osrelease": "5.4.0-1"}, check: "kernel", want: "warning: Linux 5.4.0-1"},
		"5.10 is not 5.1":  {files: map[string]string{"/proc/sys/kernel/osrelease": "5.10.0"}, check: "kernel", want: "ok: "},
		"odd kernel":       {files: map[string]string{"/proc/sys/kernel/osrelease": "hurd"}, check: "kernel", want: "warning: "},
		"no pid namespace": {sick: func(_ *machine, f *fakes) { f.namespaces["pid"] = syscall.EPERM }, check: "namespaces", want: "problem: pid: operation not permitted"},
		"no overlay":       {sick: func(_ *machine, f *fakes) { f.overlay = syscall.ENODEV }, check: "overlayfs", want: "problem: /var/lib/orlog: no such device -> load"},
		"no seccomp":       {files: map[string]string{"/proc/sys/kernel/seccomp/actions_avail": "-"}, check: "seccomp", want: "problem: the kernel has no seccomp"},
		"no veth":          {sick: func(_ *machine, f *fakes) { f.links["veth"] = syscall.EOPNOTSUPP }, check: "links", want: "problem: veth: "},
		"no vxlan":         {sick: func(_ *machine, f *fakes) { f.links["vxlan"] = syscall.EOPNOTSUPP }, check: "links", want: "warning: bridge and veth work; vxlan: "},
		"no nft":           {sick: func(_ *machine, f *fakes) { f.nft = &exec.Error{Name: "nft", Err: exec.ErrNotFound} }, check: "nftables", want: "problem: nft is not installed -> apt-get install"},
		"nft refuses":      {sick: func(_ *machine, f *fakes) { f.nft = errors.New("refused") }, check: "nftables", want: "problem: refused -> modprobe"},
		"v2 without memory": {files: map[string]string{"/sys/fs/cgroup/cgroup.controllers": "cpu pids"}, check: "cgroups",
			want: "problem: v2: cpu, pids; missing: memory -> boot"},
		"v1": {files: map[string]string{"/proc/self/mountinfo": v1 + "5 0 0:5 / /c/devices rw - cgroup cgroup rw,devices\n6 0 0:6 / /c/freezer rw - cgroup cgroup rw,freezer\n"},
			check: "cgroups", want: "ok: v1: cpu, cpuacct, devices, freezer, memory, pids"},
		"hybrid": {files: map[string]string{"/proc/self/mountinfo": v1 + "7 0 0:7 / /c/unified rw - cgroup2 cgroup2 rw\n"},
			check: "cgroups", want: "problem: v1, with an unified hierarchy beside it: cpu, cpuacct, memory, pids; missing: devices, freezer"},
		"no cgroups":        {files: map[string]string{"/proc/self/mountinfo": ""}, check: "cgroups", want: "problem: no hierarchy is mounted -> mount"},
		"read-only cgroups": {sick: func(_ *machine, f *fakes) { f.cgroup = syscall.EROFS }, check: "cgroups", want: "problem: v2: cpuset, cpu, io, memory, pids; read-only file system"},
		"no capability":     {sick: func(_ *machine, f *fakes) { f.capability = syscall.EACCES }, check: "oom score", want: "warning: may not be lowered"},
		"few files":         {sick: func(_ *machine, f *fakes) { f.hard = 1024 }, check: "open files", want: "problem: 1024, at most 1024"},
		"some files":        {sick: func(_ *machine, f *fakes) { f.hard = 20000 }, check: "open files", want: "warning: 1024, at most 20000"},
		"few pids":          {files: map[string]string{"/proc/sys/kernel/pid_max": "4096"}, check: "processes", want: "warning: pid_max 4096"},
		"few inotifies":     {files: map[string]string{"/proc/sys/fs/inotify/max_user_instances": "64"}, check: "processes", want: "warning: pid_max 4194304, inotify instances 64"},
		"tiny":              {files: map[string]string{"/proc/meminfo": "MemTotal: 262144 kB\n"}, check: "memory", want: "problem: 256MiB"},
		"full disk":         {sick: func(_ *machine, f *fakes) { f.disk.free = 1 << 20 }, check: "disk", want: "problem: 1MiB free"},
		"nearly full":       {sick: func(_ *machine, f *fakes) { f.disk.free = 2 << 30 }, check: "disk", want: "warning: 2GiB free"},
		"no inodes":         {sick: func(_ *machine, f *fakes) { f.disk.freeInodes = 1 }, check: "disk", want: "warning: 50GiB free of 100GiB in /var/lib/orlog (ext4), but 1 of 100 inodes"},
		"in memory":         {sick: func(_ *machine, f *fakes) { f.disk.kind = "tmpfs" }, check: "disk", want: "warning: 50GiB free of 100GiB in /var/lib/orlog (tmpfs): is gone after a reboot"},
		"slow disk":         {sick: func(_ *machine, f *fakes) { f.fsyncs = []time.Duration{25 * time.Millisecond} }, check: "fsync", want: "warning: 4 KiB in /var/lib/orlog: median 25ms"},
		"very slow disk":    {sick: func(_ *machine, f *fakes) { f.fsyncs = []time.Duration{time.Second} }, check: "fsync", want: "problem: "},
		"no sync":           {sick: func(_ *machine, f *fakes) { f.fsyncs = nil }, check: "fsync", want: "problem: "},
		"unkept clock":      {sick: func(_ *machine, f *fakes) { f.unsynced = true }, check: "clock", want: "warning: source tsc; nothing keeps it in step"},
		"jumping clock":     {sick: func(_ *machine, f *fakes) { f.step = -time.Second }, check: "clock", want: "warning: source tsc; it moved by -1s"},
		"1970":              {sick: func(m *machine, _ *fakes) { m.now = func() time.Time { return time.Unix(0, 0).UTC() } }, check: "clock", want: "problem: it says 1970-01-01"},
		"behind": {sick: func(m *machine, _ *fakes) {
			m.Gateway = func(context.Context) (time.Time, error) { return testNow.Add(10 * time.Second), nil }
		}, check: "cluster", want: "warning: cluster:6443 answers; its clock is 10.5s ahead of ours"},
		"far ahead": {sick: func(m *machine, _ *fakes) {
			m.Gateway = func(context.Context) (time.Time, error) { return testNow.Add(-time.Hour), nil }
		}, check: "cluster", want: "problem: cluster:6443 answers; its clock is 59m59.5s behind ours"},
		"no answer": {sick: func(m *machine, _ *fakes) {
			m.Gateway = func(context.Context) (time.Time, error) { return time.Time{}, syscall.ECONNREFUSED }
		}, check: "cluster", want: "warning: cluster:6443 does not answer: connection refused -> start orlogd"},
		"no cluster": {sick: func(m *machine, _ *fakes) { m.Gateway = nil }, check: "cluster", want: "warning: no kubeconfig"},
		"strange address": {sick: func(_ *machine, f *fakes) {
			f.listen = map[string]error{"0.0.0.0:6443": os.NewSyscallError("bind", syscall.EADDRNOTAVAIL)}
		},
			check: "port API", want: "problem: 0.0.0.0:6443 is no address of this machine"},
		"no forwarding":            {files: map[string]string{"/proc/sys/net/ipv4/ip_forward": "0"}, check: "ip_forward", want: "ok: off; orlog-agent turns it on"},
		"forwarding was taken off": {files: map[string]string{"/proc/sys/net/ipv4/ip_forward": "0"}, sick: func(_ *machine, f *fakes) { f.hasLink = true }, check: "ip_forward", want: "problem: off, though pods are here"},
		"bad runc":                 {sick: func(_ *machine, f *fakes) { f.runcError = errors.New("built without seccomp") }, check: "runc", want: "problem: built without seccomp"},
		"no shim":                  {files: map[string]string{"/usr/bin/orlog-shim": "-"}, check: "orlog-shim", want: "problem: "},
		"no plugin":                {sick: func(_ *machine, f *fakes) { delete(f.output, "bridge") }, check: "CNI plugins", want: "problem: /usr/bin/cni/bridge: no such file"},
		"odd plugin":               {sick: func(_ *machine, f *fakes) { f.output["bridge"] = "{}" }, check: "CNI plugins", want: "problem: /usr/bin/cni/bridge names no version"},
	} {
		t.Run(name, func(t *testing.T) {
			m, f := healthy(t, c.files)
			if c.sick != nil {
				c.sick(m, f)
			}
			if got := run(t, m)[c.check]; !strings.HasPrefix(got, c.want) {
				t.Errorf("%s:\n%q, want\n%q", c.check, got, c.want)
			}
		})
	}
}

func TestPortHolder(t *testing.T) {
	tcp := "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n" +
		"   0: 00000000:192B 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1\n" +
		"   1: 0100007F:107E 0100007F:9999 01 00000000:00000000 00:00000000 00000000     0        0 4712 1\n"
	taken := map[string]error{"0.0.0.0:6443": syscall.EADDRINUSE, "127.0.0.1:4222": syscall.EADDRINUSE}
	for exe, want := range map[string]string{
		"/usr/bin/orlogd (deleted)": "ok: 0.0.0.0:6443 is orlogd's (pid 77)",
		"/usr/bin/kube-apiserver":   "problem: 0.0.0.0:6443 is taken by kube-apiserver (pid 77) -> stop it, or give orlogd another --listen",
	} {
		m, f := healthy(t, map[string]string{"/proc/net/tcp": tcp, "/proc/77/exe": "-> " + exe, "/proc/77/fd/3": "-> socket:[4711]", "/proc/78/exe": "-> /bin/sh", "/proc/78/fd/0": "-> /dev/null"})
		f.listen = taken
		got := run(t, m)
		if got["port API"] != want {
			t.Errorf("%q, want %q", got["port API"], want)
		}
		if want := "problem: 127.0.0.1:4222 is taken -> find out by whom"; !strings.HasPrefix(got["port log"], want) {
			t.Errorf("%q, want %q", got["port log"], want)
		}
	}
}

func TestLeftovers(t *testing.T) {
	mounts := "31 23 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n45 27 0:4 net:[1] /var/lib/orlog/node/network/netns/a rw - nsfs nsfs rw\n" +
		"46 27 0:5 / /var/lib/orlog/node/runc/p1/shm rw - tmpfs shm rw\n47 27 0:5 / /var/lib/orlog/nodes rw - tmpfs shm rw\n"
	shim := map[string]string{"/proc/9/exe": "-> /usr/bin/orlog-shim", "/proc/9/cwd": "-> /var/lib/orlog/node/runc/p1", "/proc/8/exe": "-> /usr/bin/orlog-shim", "/proc/8/cwd": "-> /elsewhere"}
	both := map[string]string{"/proc/self/mountinfo": mounts}
	for k, v := range shim {
		both[k] = v
	}
	for name, c := range map[string]struct {
		files map[string]string
		sick  func(f *fakes)
		want  string
	}{
		"running, empty": {sick: func(f *fakes) { f.locked = true }, want: "ok: orlog-agent runs, without pods"},
		"running": {files: both, sick: func(f *fakes) {
			f.locked, f.hasLink, f.tables = true, true, []string{"orlog-proxy", "orlog-pods", "filter"}
		}, want: "ok: none: orlog-agent runs, with 1 pod, 1 mount, 1 network namespace, the bridge, nftables orlog-pods, orlog-proxy"},
		"pods alone":    {files: both, want: "warning: orlog-agent does not run, but its pods do: 1 pod, 1 mount, 1 network namespace -> start orlog-agent again to look after them, or end them with orlog-agent reset --data-dir /var/lib/orlog/node"},
		"rests":         {files: map[string]string{"/sys/fs/cgroup/orlog/p1/x": ""}, sick: func(f *fakes) { f.hasLink = true }, want: "warning: no orlog-agent runs, but there are 1 cgroup, the bridge -> start orlog-agent again, or remove them with orlog-agent reset"},
		"another agent": {files: map[string]string{"/proc/5/exe": "-> /usr/bin/orlog-agent"}, sick: func(f *fakes) { f.hasLink = true }, want: "ok: none in /var/lib/orlog/node; there is the bridge, of the orlog-agent with pid 5"},
	} {
		t.Run(name, func(t *testing.T) {
			m, f := healthy(t, c.files)
			if c.sick != nil {
				c.sick(f)
			}
			if got := run(t, m)["leftovers"]; !strings.HasPrefix(got, c.want) {
				t.Errorf("%q, want\n%q", got, c.want)
			}
		})
	}
}

func TestWorst(t *testing.T) {
	for want, findings := range map[Status][]Finding{
		OK:      {ok("")},
		Warning: {ok(""), warning("", ""), ok("")},
		Problem: {warning("", ""), problem("", ""), warning("", "")},
	} {
		if got := Worst(findings); got != want {
			t.Errorf("Worst(%v) = %s", findings, got)
		}
	}
}
