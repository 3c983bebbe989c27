//go:build system

package doctor

import (
	"context"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What is tried on the real machine works on one that runs Orlog's other system tests, and leaves nothing behind.
func TestThisMachine(t *testing.T) {
	dir := t.TempDir()
	findings := Run(context.Background(), Options{DataDir: dir, NodeDir: dir, BinDir: dir, Listen: "127.0.0.1:0", NATSListen: "127.0.0.1:0",
		Bridge: "orlogdoctor", Table: "orlogdoctor", CgroupRoot: "/orlog-doctor-none", Node: true,
		Gateway: func(context.Context) (time.Time, error) { return time.Now(), nil }})
	missing := []string{"runc", "orlog-shim", "CNI plugins"} // the folder is empty
	for _, f := range findings {
		if want := slices.Contains(missing, f.Check); (f.Status == Problem) != want {
			t.Errorf("%s: %s: %s", f.Check, f.Status, f.Detail)
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil || strings.Contains(string(mounts), "orlog-doctor") {
		t.Errorf("mounts are left (%v):\n%s", err, mounts)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) > 0 {
		t.Errorf("files are left: %v %v", entries, err)
	}
}

// namespacesOf are those of the process's main thread, which is what /proc/self tells of.
func namespacesOf(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	for name := range namespaceFlags {
		at, err := os.Readlink("/proc/self/ns/" + name)
		if err != nil {
			t.Fatal(err)
		}
		out[name] = at
	}
	return out
}

func TestAttemptsNeverTakeTheMainThread(t *testing.T) {
	before := namespacesOf(t)
	for range 200 {
		if err := apart(func() error { return unix.Unshare(unix.CLONE_NEWNET | unix.CLONE_NEWNS) }); err != nil {
			t.Fatal(err)
		}
	}
	if after := namespacesOf(t); !maps.Equal(before, after) {
		t.Errorf("namespaces moved: %v, were %v", after, before)
	}
}
