//go:build system

package runc

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/orlog-io/orlog/node/shim"
)

// says runs a script in a container and returns what it wrote.
func (b *bench) says(sandbox, name, script string, edit ...func(*Container)) string {
	b.Helper()
	b.run(sandbox, b.container(name, script, edit...))
	st := b.wait(sandbox, name+"-0")
	var out []string
	for _, l := range b.log(name) {
		out = append(out, strings.SplitN(l, " ", 3)[2])
	}
	if st.ExitCode != 0 {
		b.Errorf("%s: exit %d: %q", name, st.ExitCode, out)
	}
	return strings.Join(out, "\n")
}

// newNetNS pins a network namespace as the network package does.
func newNetNS(b *bench) string {
	b.Helper()
	path := filepath.Join(b.TempDir(), "netns")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		b.Fatal(err)
	}
	if out, err := exec.Command("unshare", "--net="+path, "true").CombinedOutput(); err != nil {
		b.Fatalf("%v: %s", err, out)
	}
	b.Cleanup(func() { unix.Unmount(path, unix.MNT_DETACH) })
	return path
}

func TestPodNamespaces(t *testing.T) {
	b := newBench(t)
	netns := newNetNS(b)
	s := b.sandbox("ns", func(s *Sandbox) {
		s.NetNS, s.Hostname = netns, "web-0"
		s.Sysctls = map[string]string{"net.ipv4.ip_unprivileged_port_start": "42", "kernel.shm_rmid_forced": "1"}
	})
	script := `hostname; cat /etc/hostname; for n in net uts ipc pid mnt; do readlink /proc/self/ns/$n; done
		cat /proc/sys/net/ipv4/ip_unprivileged_port_start; echo $$; echo x >>/dev/shm/f; wc -c </dev/shm/f`
	b.run(s, b.container("one", script+"; echo end; sleep 1000")) // stays: a namespace's number may be used again
	b.awaitLog("one", "stdout F end")
	one := b.log("one")
	for i := range one {
		one[i] = strings.TrimPrefix(one[i], "stdout F ")
	}
	two := strings.Split(b.says(s, "two", script), "\n")
	if one[0] != "web-0" || one[1] != "web-0" || one[7] != "42" || one[8] != "1" {
		t.Errorf("one %q", one)
	}
	for i, shared := range []bool{true, true, true, false, false} { // net, uts, ipc, pid, mnt
		if (one[2+i] == two[2+i]) != shared {
			t.Errorf("namespaces %s and %s: shared should be %v", one[2+i], two[2+i], shared)
		}
	}
	if one[9] != "2" || two[9] != "4" {
		t.Errorf("/dev/shm is not shared: %s then %s", one[9], two[9])
	}
}

func TestSharedProcessNamespace(t *testing.T) {
	b := newBench(t)
	s := b.sandbox("sharepid", func(s *Sandbox) { s.ShareProcessNamespace = true })
	b.run(s, b.container("server", "sleep 4321 & sleep 4321"))
	got := b.says(s, "looker", "ps")
	if !strings.Contains(got, "sleep 4321") || !strings.Contains(got, "/pause") {
		t.Errorf("ps: %q", got)
	}
	if all, err := b.Status(b.ctx, s); err != nil || len(all) != 2 {
		t.Errorf("containers: %+v %v", all, err)
	}
	if alive, err := b.Alive(b.ctx, s); err != nil || !alive {
		t.Errorf("alive: %v %v", alive, err)
	}
	if err := b.Signal(b.ctx, s, "server-0", unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if st := b.wait(s, "server-0"); st.ExitCode != 137 {
		t.Errorf("server: %+v", st)
	}
	// Its background process went with it.
	if got := b.says(s, "again", "ps"); strings.Contains(got, "sleep 4321") {
		t.Errorf("ps: %q", got)
	}
}

// The death of a shared PID namespace is noticed, and opening the sandbox again mends it.
func TestPauseKilled(t *testing.T) {
	b := newBench(t)
	s := b.sandbox("pausekill", func(s *Sandbox) { s.ShareProcessNamespace = true })
	b.run(s, b.container("a", "sleep 1000"))
	rec, err := b.readSandbox(s)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(rec.Pause, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if st := b.wait(s, "a-0"); st.ExitCode != 137 {
		t.Errorf("container of a dead namespace: %+v", st)
	}
	b.await("the namespace's end", func() bool {
		alive, err := b.Alive(b.ctx, s)
		if err != nil {
			t.Fatal(err)
		}
		return !alive
	})
	b.sandbox("pausekill", func(s *Sandbox) { s.ShareProcessNamespace = true })
	if got := b.says(s, "again", "ps"); !strings.Contains(got, "/pause") {
		t.Errorf("ps: %q", got)
	}
}

func TestHostProcessNamespace(t *testing.T) {
	b := newBench(t)
	s := b.sandbox("hostpid", func(s *Sandbox) { s.HostPID, s.HostIPC = true, true })
	b.run(s, b.container("server", "sleep 4322 & exec sleep 4323"))
	host, err := os.Readlink("/proc/self/ns/ipc")
	if err != nil {
		t.Fatal(err)
	}
	got := b.says(s, "looker", "ps; readlink /proc/self/ns/ipc")
	if !strings.Contains(got, "sleep 4322") || !strings.Contains(got, host) {
		t.Errorf("said %q", got)
	}
	if err := b.Remove(b.ctx, s, "server-0"); err != nil {
		t.Fatal(err)
	}
	if got := b.says(s, "again", "ps"); strings.Contains(got, "sleep 432") {
		t.Errorf("left behind: %q", got)
	}
}

func TestConfinement(t *testing.T) {
	b := newBench(t)
	s := b.sandbox("confined")
	status := `grep -E 'CapEff|NoNewPrivs|^Seccomp:' /proc/self/status | tr -s '\t\n' '  '; id`
	for _, tc := range []struct {
		name, want string
		edit       func(*Container)
	}{
		{"plain", "CapEff: 00000000a80425fb NoNewPrivs: 1 Seccomp: 0 uid=0(root) gid=0(root) groups=0(root)", func(c *Container) {}},
		{"runtimedefault", "CapEff: 00000000a80425fb NoNewPrivs: 0 Seccomp: 2 uid=0(root) gid=0(root) groups=0(root)", func(c *Container) {
			c.Security.Seccomp, c.Security.AllowPrivilegeEscalation = SeccompRuntimeDefault, true
		}},
		{"user", "CapEff: 0000000000000000 NoNewPrivs: 1 Seccomp: 0 uid=1000(app) gid=1000(app) groups=50(staff),1000(app),7777", func(c *Container) {
			c.UID, c.GID, c.Groups = 1000, 1000, []uint32{50, 7777}
		}},
		{"dropall", "CapEff: 0000000000000400 NoNewPrivs: 1 Seccomp: 0 uid=0(root) gid=0(root) groups=0(root)", func(c *Container) {
			c.Security.DropCapabilities, c.Security.AddCapabilities = []string{"ALL"}, []string{"NET_BIND_SERVICE"}
		}},
	} {
		if got := b.says(s, tc.name, status, tc.edit); strings.Join(strings.Fields(got), " ") != tc.want {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
	}
	if got := b.says(s, "priv", `mount -t tmpfs x /tmp && echo mounted; ls /dev/kmsg; echo ok > /proc/sys/vm/compact_memory || true`, func(c *Container) {
		c.Security.Privileged = true
	}); !strings.Contains(got, "mounted") || !strings.Contains(got, "/dev/kmsg") {
		t.Errorf("privileged: %q", got)
	}
	if got := b.says(s, "unpriv", `mount -t tmpfs x /tmp 2>/dev/null || echo refused; echo 1 2>/dev/null >/proc/sys/vm/swappiness || echo readonly; wc -c </proc/timer_list`); got != "refused\nreadonly\n0" {
		t.Errorf("unprivileged: %q", got)
	}
	if got := b.says(s, "roroot", `touch /x 2>/dev/null || echo readonly; touch /dev/shm/x && echo shm`, func(c *Container) { c.Security.ReadOnlyRoot = true }); got != "readonly\nshm" {
		t.Errorf("read-only root: %q", got)
	}
}

func TestMounts(t *testing.T) {
	b := newBench(t)
	s := b.sandbox("mounts")
	host := b.TempDir()
	for name, text := range map[string]string{"file": "content", "dir/inner": "inner"} {
		path := filepath.Join(host, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got := b.says(s, "a", `cat /data/inner /etc/hosts; touch /data/new && echo rw; touch /ro/new 2>/dev/null || echo ro; cat /data/deep/file; touch /scratch/x && echo tmpfs; pwd`,
		func(c *Container) {
			c.Cwd = "/made/for/me"
			c.Mounts = []Mount{
				{Source: filepath.Join(host, "file"), Target: "/data/deep/file"}, // inside the next one, whatever the order
				{Source: filepath.Join(host, "dir"), Target: "/data"},
				{Source: filepath.Join(host, "dir"), Target: "/ro", ReadOnly: true, RecursiveReadOnly: true},
				{Source: filepath.Join(host, "file"), Target: "/etc/hosts", ReadOnly: true},
				{Source: "tmpfs", Target: "/scratch", Type: "tmpfs", Options: []string{"size=1m"}},
			}
		})
	if want := "inner\ncontent\nrw\nro\ncontent\ntmpfs\n/made/for/me"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if _, err := os.Stat(filepath.Join(host, "dir/new")); err != nil {
		t.Error(err)
	}
}

func TestManyLayers(t *testing.T) {
	b := newBench(t)
	s := b.sandbox("layers")
	base := filepath.Join(b.TempDir(), strings.Repeat("long-name-of-a-folder", 5)+": with, odd\\ signs")
	layers := []string{b.layer}
	for i := range 127 {
		dir := filepath.Join(base, fmt.Sprintf("%064d", i))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for name, text := range map[string]string{fmt.Sprintf("own%d", i): "x", "top": fmt.Sprint(i)} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		layers = append(layers, dir)
	}
	got := b.says(s, "a", "cat /top; echo; ls /own* | wc -l", func(c *Container) { c.Layers = layers })
	if got != "126\n127" {
		t.Errorf("%q", got)
	}
	if got := b.says(s, "b", "cat /top", func(c *Container) { c.Layers = layers[:3] }); got != "1" {
		t.Errorf("few layers with odd names: %q", got)
	}
}

func TestMemoryLimit(t *testing.T) {
	b := newBench(t)
	s := b.sandbox("oom", func(s *Sandbox) { s.Resources = Resources{MemoryBytes: 256 << 20, CPUShares: 512, PidsLimit: 500} })
	c := b.container("a", "tail /dev/zero", func(c *Container) {
		c.Resources = Resources{MemoryBytes: 16 << 20, CPUShares: 100, CPUQuota: 50000, PidsLimit: 50}
	})
	b.run(s, c)
	st := b.wait(s, "a-0")
	if !st.OOMKilled || st.Reason != ReasonOOMKilled || st.ExitCode == 0 {
		t.Errorf("status %+v", st)
	}
	limit := "memory/orlog/pod" + s + "/a-0/memory.limit_in_bytes"
	if b.cgroups.v2 {
		limit = "orlog/pod" + s + "/a-0/memory.max"
	}
	data, err := os.ReadFile(filepath.Join("/sys/fs/cgroup", limit))
	if err != nil || string(bytes.TrimSpace(data)) != fmt.Sprint(16<<20) {
		t.Errorf("%s: %q %v", limit, data, err)
	}
	if b.cgroups.v2 {
		limit = "orlog/pod" + s + "/memory.max"
	} else {
		limit = "memory/orlog/pod" + s + "/memory.limit_in_bytes"
	}
	if data, err = os.ReadFile(filepath.Join("/sys/fs/cgroup", limit)); err != nil || string(bytes.TrimSpace(data)) != fmt.Sprint(256<<20) {
		t.Errorf("%s: %q %v", limit, data, err)
	}
}

func TestLogRotation(t *testing.T) {
	b := newBench(t)
	b.opts.LogMaxSize, b.opts.LogFiles = 100<<10, 3
	b.reopen()
	s := b.sandbox("rotate")
	b.run(s, b.container("a", "i=0; while test $i -lt 20000; do echo line $i; i=$((i+1)); done"))
	b.wait(s, "a-0")
	files, err := filepath.Glob(filepath.Join(b.logs, "a", "0.log*"))
	if err != nil || len(files) != 3 {
		t.Fatalf("files %v %v", files, err)
	}
	all := ""
	for _, f := range append(shim.RotatedLogs(filepath.Join(b.logs, "a", "0.log")), filepath.Join(b.logs, "a", "0.log")) {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		all += string(data)
	}
	if !strings.HasSuffix(all, " stdout F line 19999\n") {
		t.Errorf("end of the logs %.100q", all[max(len(all)-100, 0):])
	}
	for _, f := range files {
		if st, err := os.Stat(f); err != nil || st.Size() > 200<<10 {
			t.Errorf("%s: %v %v", f, st, err)
		}
	}
}
