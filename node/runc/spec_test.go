package runc

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

func testSurroundings(edit ...func(*surroundings)) surroundings {
	s := surroundings{
		sandbox: Sandbox{ID: "uid", NetNS: "/run/netns/x", Hostname: "web"}, podDir: "/state/uid", shimPID: 7,
		cgroup: "/orlog/poduid", own: capabilitySet{}, oomScoreMin: -1000,
		devices: func() ([]specs.LinuxDevice, error) { return []specs.LinuxDevice{{Path: "/dev/all", Type: "c"}}, nil },
		exists:  func(path string) bool { return path != "/proc/acpi" },
	}
	for _, name := range capabilityNames {
		s.own[name] = true
	}
	for _, e := range edit {
		e(&s)
	}
	return s
}

func testSpec(t *testing.T, c Container, s surroundings) *specs.Spec {
	t.Helper()
	c.ID, c.Name = "c1", "main"
	spec, err := buildSpec(c, s)
	if err != nil {
		t.Fatal(err)
	}
	return spec
}

func TestSpecNamespaces(t *testing.T) {
	for _, tc := range []struct {
		name string
		edit func(*surroundings)
		want string
	}{
		{"pod", func(*surroundings) {}, "mount network=/run/netns/x uts=/proc/7/ns/uts ipc=/proc/7/ns/ipc pid"},
		{"host network", func(s *surroundings) { s.sandbox.NetNS = "" }, "mount ipc=/proc/7/ns/ipc pid"},
		{"host pid and ipc", func(s *surroundings) { s.sandbox.HostPID, s.sandbox.HostIPC = true, true }, "mount network=/run/netns/x uts=/proc/7/ns/uts"},
		{"shared pid", func(s *surroundings) { s.pausePID = 9 }, "mount network=/run/netns/x uts=/proc/7/ns/uts ipc=/proc/7/ns/ipc pid=/proc/9/ns/pid"},
		{"cgroup v2", func(s *surroundings) { s.cgroupV2 = true }, "mount network=/run/netns/x uts=/proc/7/ns/uts ipc=/proc/7/ns/ipc pid cgroup"},
	} {
		var got []string
		for _, n := range testSpec(t, Container{}, testSurroundings(tc.edit)).Linux.Namespaces {
			text := string(n.Type)
			if n.Path != "" {
				text += "=" + n.Path
			}
			got = append(got, text)
		}
		if strings.Join(got, " ") != tc.want {
			t.Errorf("%s: %v, want %s", tc.name, got, tc.want)
		}
	}
}

func TestSpecProcess(t *testing.T) {
	c := Container{Args: []string{"a", "b"}, Env: []string{"X=1"}, UID: 5, GID: 6, Groups: []uint32{7}, OOMScoreAdj: -997, TTY: true}
	p := testSpec(t, c, testSurroundings(func(s *surroundings) { s.oomScoreMin = 0 })).Process
	if p.Cwd != "/" || *p.OOMScoreAdj != 0 || !p.NoNewPrivileges || !slices.Equal(p.User.AdditionalGids, []uint32{6, 7}) {
		t.Errorf("process %+v", p)
	}
	if !slices.Contains(p.Env, "TERM=xterm") || !slices.Contains(p.Env, "X=1") || !strings.HasPrefix(p.Env[0], "PATH=") {
		t.Errorf("environment %q", p.Env)
	}
	c.Env, c.TTY = []string{"PATH=/mine"}, false
	if p := testSpec(t, c, testSurroundings()).Process; !slices.Equal(p.Env, c.Env) || *p.OOMScoreAdj != -997 {
		t.Errorf("process %+v", p)
	}
}

func TestSpecPrivileged(t *testing.T) {
	plain := testSpec(t, Container{}, testSurroundings()).Linux
	if len(plain.MaskedPaths) != len(defaultMasked)-1 || slices.Contains(plain.MaskedPaths, "/proc/acpi") || len(plain.ReadonlyPaths) == 0 || plain.Seccomp != nil || plain.Resources.Devices[0].Allow {
		t.Errorf("plain %+v", plain)
	}
	spec := testSpec(t, Container{Security: Security{Privileged: true, Seccomp: SeccompRuntimeDefault}}, testSurroundings())
	l := spec.Linux
	if l.MaskedPaths != nil || l.ReadonlyPaths != nil || l.Seccomp != nil || !l.Resources.Devices[0].Allow || len(l.Devices) != 1 {
		t.Errorf("privileged %+v", l)
	}
	if len(spec.Process.Capabilities.Bounding) != len(capabilityNames) || spec.Process.NoNewPrivileges {
		t.Errorf("privileged process %+v", spec.Process)
	}
	unmasked := testSpec(t, Container{Security: Security{MaskedPaths: []string{}, ReadonlyPaths: []string{}}}, testSurroundings()).Linux
	if len(unmasked.MaskedPaths) != 0 || len(unmasked.ReadonlyPaths) != 0 {
		t.Errorf("unmasked %+v", unmasked)
	}
}

func TestSpecResources(t *testing.T) {
	c := Container{Resources: Resources{CPUShares: 204, CPUQuota: 20000, MemoryBytes: 1 << 20, PidsLimit: 9}}
	v1 := testSpec(t, c, testSurroundings()).Linux.Resources
	if *v1.CPU.Shares != 204 || *v1.CPU.Quota != 20000 || *v1.CPU.Period != 100000 || *v1.Memory.Limit != 1<<20 || *v1.Pids.Limit != 9 || v1.Unified != nil {
		t.Errorf("v1 %+v", v1)
	}
	v2 := testSpec(t, c, testSurroundings(func(s *surroundings) { s.cgroupV2 = true })).Linux.Resources
	if v2.Unified["memory.oom.group"] != "1" || *v2.Memory.Swap != 1<<20 {
		t.Errorf("v2 %+v", v2)
	}
	none := testSpec(t, Container{}, testSurroundings()).Linux.Resources
	if none.CPU != nil || none.Memory.Limit != nil || none.Pids != nil {
		t.Errorf("none %+v", none)
	}
}

func TestSpecMounts(t *testing.T) {
	c := Container{Mounts: []Mount{
		{Source: "/h/inner", Target: "/data/inner", ReadOnly: true},
		{Source: "/h/data", Target: "/data/", Propagation: PropagationHostToContainer},
		{Source: "/h/shm", Target: "/dev/shm"},
		{Source: "/h/hosts", Target: "/etc/hostname", ReadOnly: true, RecursiveReadOnly: true},
	}}
	spec := testSpec(t, c, testSurroundings())
	var got []string
	for _, m := range spec.Mounts {
		if m.Type == "bind" {
			got = append(got, m.Source+":"+m.Destination+":"+strings.Join(m.Options, ","))
		}
	}
	want := []string{
		"/h/data:/data/:rbind,rslave,rw",
		"/h/inner:/data/inner:rbind,rprivate,ro",
		"/h/shm:/dev/shm:rbind,rprivate,rw",
		"/h/hosts:/etc/hostname:rbind,rprivate,rro",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if spec.Linux.RootfsPropagation != "rslave" {
		t.Errorf("propagation of the root %q", spec.Linux.RootfsPropagation)
	}
}

func TestCapabilities(t *testing.T) {
	own := capabilitySet{}
	for _, name := range append([]string{"NET_ADMIN"}, defaultCapabilities...) {
		own[name] = true
	}
	for _, tc := range []struct {
		name string
		s    Security
		want string
		err  string
	}{
		{name: "default", want: "CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP NET_BIND_SERVICE NET_RAW SYS_CHROOT MKNOD AUDIT_WRITE SETFCAP"},
		{name: "drop all", s: Security{DropCapabilities: []string{"all"}}, want: ""},
		{name: "drop all, add one", s: Security{DropCapabilities: []string{"ALL"}, AddCapabilities: []string{"cap_net_admin"}}, want: "NET_ADMIN"},
		{name: "add all, drop some", s: Security{AddCapabilities: []string{"ALL"}, DropCapabilities: []string{"MKNOD", "KILL", "CHOWN", "SETPCAP"}},
			want: "DAC_OVERRIDE FOWNER FSETID SETGID SETUID NET_BIND_SERVICE NET_ADMIN NET_RAW SYS_CHROOT AUDIT_WRITE SETFCAP"},
		{name: "not ours to give", s: Security{AddCapabilities: []string{"SYS_TIME"}}, err: "does not have it itself"},
		{name: "no such", s: Security{AddCapabilities: []string{"FLY"}}, err: "not one the kernel knows"},
		{name: "privileged", s: Security{Privileged: true, DropCapabilities: []string{"ALL"}},
			want: "CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP NET_BIND_SERVICE NET_ADMIN NET_RAW SYS_CHROOT MKNOD AUDIT_WRITE SETFCAP"},
	} {
		got, err := capabilities(tc.s, own)
		if tc.err != "" {
			if err == nil || !strings.Contains(err.Error(), tc.err) {
				t.Errorf("%s: error %v", tc.name, err)
			}
			continue
		}
		var want []string
		for name := range strings.FieldsSeq(tc.want) {
			want = append(want, "CAP_"+name)
		}
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %v %v, want %v", tc.name, got, err, want)
		}
	}
}

func TestSeccompProfiles(t *testing.T) {
	admin := defaultSeccomp([]string{"CAP_SYS_ADMIN"})
	plain := defaultSeccomp(nil)
	has := func(p *specs.LinuxSeccomp, name string, action specs.LinuxSeccompAction) bool {
		return slices.ContainsFunc(p.Syscalls, func(s specs.LinuxSyscall) bool {
			return s.Action == action && slices.Contains(s.Names, name)
		})
	}
	if !has(admin, "mount", specs.ActAllow) || has(plain, "mount", specs.ActAllow) || !has(plain, "clone3", specs.ActErrno) || has(plain, "keyctl", specs.ActAllow) {
		t.Error("the default profile is not what its capabilities ask for")
	}
	path := filepath.Join(t.TempDir(), "profile.json")
	docker := `{"defaultAction":"SCMP_ACT_ERRNO","archMap":[{"architecture":"` + string(architectures()[0]) + `","subArchitectures":["SCMP_ARCH_X86"]},
		{"architecture":"SCMP_ARCH_S390X"}],"syscalls":[{"names":["read"],"action":"SCMP_ACT_ALLOW"}]}`
	if err := os.WriteFile(path, []byte(docker), 0o600); err != nil {
		t.Fatal(err)
	}
	p := testSpec(t, Container{Security: Security{Seccomp: "Localhost:" + path}}, testSurroundings()).Linux.Seccomp
	if p.DefaultAction != specs.ActErrno || len(p.Architectures) != 2 || len(p.Syscalls) != 1 {
		t.Errorf("profile %+v", p)
	}
	if _, err := buildSpec(Container{Security: Security{Seccomp: "Localhost:/none"}}, testSurroundings()); err == nil {
		t.Error("a missing profile was accepted")
	}
}
