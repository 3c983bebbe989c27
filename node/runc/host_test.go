package runc

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestResolveUser(t *testing.T) {
	below, above := t.TempDir(), t.TempDir()
	for path, text := range map[string]string{
		filepath.Join(below, "etc/passwd"): "root:x:0:0:root:/root:/bin/sh\n",
		filepath.Join(above, "etc/passwd"): "# comment\nroot:x:0:0:root:/root:/bin/sh\n\napp:x:1000:100:App:/srv:/bin/sh\nbroken\n",
		filepath.Join(below, "etc/group"):  "root:x:0:root\nwheel:x:10:app,root\nstaff:x:50:app\nusers:x:100:app\n",
	} {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	layers := []string{below, above}
	for _, tc := range []struct {
		user     string
		uid, gid uint32
		groups   []uint32
		err      string
	}{
		{user: "", uid: 0, gid: 0, groups: []uint32{10}},
		{user: "root", uid: 0, gid: 0, groups: []uint32{10}},
		{user: "app", uid: 1000, gid: 100, groups: []uint32{10, 50}},
		{user: "1000", uid: 1000, gid: 100, groups: []uint32{10, 50}},
		{user: "4711", uid: 4711, gid: 0},
		{user: "app:staff", uid: 1000, gid: 50},
		{user: "4711:4712", uid: 4711, gid: 4712},
		{user: "nobody", err: "not in the image's /etc/passwd"},
		{user: "app:none", err: `group "none"`},
	} {
		u, err := ResolveUser(layers, tc.user)
		if tc.err != "" {
			if err == nil || !strings.Contains(err.Error(), tc.err) {
				t.Errorf("%q: error %v", tc.user, err)
			}
			continue
		}
		if err != nil || u.UID != tc.uid || u.GID != tc.gid || !slices.Equal(u.Groups, tc.groups) {
			t.Errorf("%q: %+v %v", tc.user, u, err)
		}
	}
}

// An image's links lead nowhere outside it.
func TestResolveUserStaysInImage(t *testing.T) {
	layer := t.TempDir()
	if err := os.Mkdir(filepath.Join(layer, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(layer, "etc/passwd")); err != nil {
		t.Fatal(err)
	}
	if _, err := ResolveUser([]string{layer}, "root"); err == nil {
		t.Error("read the host's /etc/passwd")
	}
	if err := os.Symlink("../../../../../../../../etc/group", filepath.Join(layer, "etc/group")); err != nil {
		t.Fatal(err)
	}
	if u, err := ResolveUser([]string{layer}, "0:root"); err == nil {
		t.Errorf("read the host's /etc/group: %+v", u)
	}
}

const hybridMounts = `25 30 0:23 / /proc rw shared:5 - proc proc rw
31 25 0:26 / /sys/fs/cgroup ro - tmpfs tmpfs ro,mode=755
32 31 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
33 31 0:28 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct
34 31 0:29 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
35 31 0:30 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd
`

const unifiedMounts = `25 30 0:23 / /proc rw shared:5 - proc proc rw
31 25 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate
`

func findIn(t *testing.T, mounts string) cgroups {
	t.Helper()
	path := filepath.Join(t.TempDir(), "mountinfo")
	if err := os.WriteFile(path, []byte(mounts), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := findCgroups(path)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestFindCgroups(t *testing.T) {
	v1 := findIn(t, hybridMounts)
	if v1.v2 || v1.controllers["cpuacct"] != "/sys/fs/cgroup/cpu,cpuacct" || len(v1.mounts) != 4 || v1.unified != "/sys/fs/cgroup/unified" {
		t.Errorf("hybrid: %+v", v1)
	}
	if got := v1.oomFile("/a/b"); got != "/sys/fs/cgroup/memory/a/b/memory.oom_control" {
		t.Errorf("hybrid: %s", got)
	}
	v2 := findIn(t, unifiedMounts)
	if !v2.v2 || v2.procsFile("/a") != "/sys/fs/cgroup/a/cgroup.procs" || v2.oomFile("/a") != "/sys/fs/cgroup/a/memory.events" {
		t.Errorf("unified: %+v", v2)
	}
}

// The limits of a pod go to the files of either version, here in plain folders.
func TestPodLimits(t *testing.T) {
	r := Resources{CPUShares: 1024, CPUQuota: 150000, MemoryBytes: 64 << 20, PidsLimit: 77}
	root := t.TempDir()
	read := func(path string) string {
		data, err := os.ReadFile(filepath.Join(root, path))
		if err != nil {
			t.Error(err)
		}
		return string(data)
	}
	v2 := cgroups{v2: true, root: root, mounts: []string{root}}
	if err := v2.create("/orlog/podx", r); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{"orlog/podx/cpu.weight": "100", "orlog/podx/cpu.max": "150000 100000",
		"orlog/podx/memory.max": "67108864", "orlog/podx/pids.max": "77", "orlog/cgroup.subtree_control": "+pids"} {
		if got := read(path); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
	v1 := cgroups{controllers: map[string]string{"cpu": root, "memory": root, "pids": root}}
	if err := v1.create("/v1/podx", r); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{"v1/podx/cpu.shares": "1024", "v1/podx/cpu.cfs_quota_us": "150000",
		"v1/podx/cpu.cfs_period_us": "100000", "v1/podx/memory.limit_in_bytes": "67108864", "v1/podx/pids.max": "77"} {
		if got := read(path); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
	if err := v2.create("/none", Resources{}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(root, "none")); err == nil {
		t.Error("a cgroup was made for no limit")
	}
}

func TestRemoveMissingCgroup(t *testing.T) {
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "orlog/podx/c/nested"), 0o755); err != nil {
		t.Fatal(err)
	}
	c := cgroups{mounts: []string{root, filepath.Join(root, "other")}}
	for range 2 {
		if err := c.remove(context.Background(), "/orlog/podx"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(filepath.Join(root, "orlog/podx")); err == nil {
		t.Error("left")
	}
}

func TestOverlayOptions(t *testing.T) {
	got := overlayOptions("/c,1", []string{"/base", "/odd:name"})
	if want := `lowerdir=/odd\:name:/base,upperdir=/c\,1/upper,workdir=/c\,1/work`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestParseVersion(t *testing.T) {
	for text, want := range map[string][2]int{"1.5.2": {1, 5}, "1.2.0-rc.1+dev": {1, 2}, "2.0": {2, 0}} {
		major, minor, err := parseVersion(text)
		if err != nil || major != want[0] || minor != want[1] {
			t.Errorf("%s: %d.%d %v", text, major, minor, err)
		}
	}
	if _, _, err := parseVersion("new"); err == nil {
		t.Error("accepted a word")
	}
}

func TestValidate(t *testing.T) {
	for _, s := range []Sandbox{{ID: ""}, {ID: "../x"}, {ID: "a/b"}, {ID: "a", NetNS: "rel"}, {ID: "a", CgroupParent: "/"},
		{ID: "a", CgroupParent: "/a/../.."}, {ID: "a", HostPID: true, ShareProcessNamespace: true}} {
		if s.validate() == nil {
			t.Errorf("accepted %+v", s)
		}
	}
	good := Container{ID: "a", Layers: []string{"/l"}, Args: []string{"x"}}
	if err := good.validate(); err != nil {
		t.Error(err)
	}
	for _, edit := range []func(*Container){
		func(c *Container) { c.ID = ".." }, func(c *Container) { c.Layers = nil }, func(c *Container) { c.Args = nil },
		func(c *Container) { c.Cwd = "rel" }, func(c *Container) { c.Mounts = []Mount{{Target: "rel"}} },
		func(c *Container) { c.Security.Seccomp = "Strict" }, func(c *Container) { c.Layers = []string{"rel"} },
	} {
		c := good
		edit(&c)
		if c.validate() == nil {
			t.Errorf("accepted %+v", c)
		}
	}
}
