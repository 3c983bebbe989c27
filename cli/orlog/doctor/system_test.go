//go:build system

package doctor

import (
	"context"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// What is tried on the real machine works on one that runs Orlog's other system tests, and leaves nothing behind.
func TestThisMachine(t *testing.T) {
	mounts := func() string {
		b, err := os.ReadFile("/proc/self/mountinfo")
		if err != nil {
			t.Fatal(err)
		}
		var ours []string
		for line := range strings.Lines(string(b)) {
			if strings.Contains(line, "orlog-doctor") {
				ours = append(ours, line)
			}
		}
		return strings.Join(ours, "")
	}
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
	if left := mounts(); left != "" {
		t.Errorf("mounts are left:\n%s", left)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) > 0 {
		t.Errorf("files are left: %v %v", entries, err)
	}
}
