package runctest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Build builds runc and orlog-shim into a new temporary folder, which remove deletes, with the cgroups that all
// pods have in common where nobody uses them any more. Where ORLOG_TEST_RUNC names a folder that has both, as on a
// machine without a compiler, these are taken. For TestMain.
func Build() (runc, shim string, remove func(), err error) {
	if dir := os.Getenv("ORLOG_TEST_RUNC"); dir != "" {
		return filepath.Join(dir, "runc"), filepath.Join(dir, "orlog-shim"), removeParents, nil
	}
	dir, err := os.MkdirTemp("", "orlog-bin-")
	if err != nil {
		return "", "", nil, err
	}
	remove = func() {
		os.RemoveAll(dir)
		removeParents()
	}
	runc, shim = filepath.Join(dir, "runc"), filepath.Join(dir, "orlog-shim")
	for _, args := range [][]string{
		{"build", "-tags", "seccomp", "-o", runc, "github.com/opencontainers/runc"},
		{"build", "-o", shim, "github.com/orlog-io/orlog/cli/orlog-shim"},
	} {
		if out, err := exec.Command("go", args...).CombinedOutput(); err != nil {
			remove()
			return "", "", nil, fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, out)
		}
	}
	return runc, shim, remove, nil
}

// Applets are the commands that Busybox has under /bin.
const Applets = "sh sleep cat echo printf id hostname ls mount kill ps true false dd head seq stty grep wc touch env sync tail nc tr readlink"

// Busybox lays out a root file system of one static binary, with two users: root, and app (1000:1000, also in
// staff, 50).
func Busybox(t testing.TB, root string) {
	t.Helper()
	for _, dir := range []string{"bin", "etc", "tmp", "root"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	binary, err := os.ReadFile("/usr/bin/busybox")
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{
		"bin/busybox": string(binary),
		"etc/passwd":  "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n",
		"etc/group":   "root:x:0:\napp:x:1000:\nstaff:x:50:app,other\n",
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(root, name), []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for applet := range strings.FieldsSeq(Applets) {
		if err := os.Symlink("busybox", filepath.Join(root, "bin", applet)); err != nil {
			t.Fatal(err)
		}
	}
}

// removeParents removes the cgroups above pods' own. One that is in use stays: somebody else's node has it.
func removeParents() {
	for _, name := range []string{"orlog/shims", "orlog"} {
		for _, mount := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/*"} {
			dirs, err := filepath.Glob(filepath.Join(mount, name))
			if err != nil {
				panic(err) // a malformed pattern
			}
			for _, dir := range dirs {
				_ = os.Remove(dir)
			}
		}
	}
}
