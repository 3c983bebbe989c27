//go:build system

package runc

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
)

// maxShimMemory is what a shim may cost a node in memory of its own.
const maxShimMemory = 5 << 20

// A shim stays small, also after work: output, execs and restarts of containers.
func TestShimMemory(t *testing.T) {
	b := newBench(t)
	s := b.sandbox("memory")
	b.run(s, b.container("idle", "sleep 1000"))
	pid := shimOf(t, b, s)
	fresh := privateMemory(t, pid)
	for i := range 5 {
		name := fmt.Sprintf("loud%d", i)
		b.run(s, b.container(name, "head -c 4000000 /dev/zero | tr '\\0' '\\n'; i=0; while test $i -lt 5000; do echo line $i; i=$((i+1)); done"))
		b.wait(s, name+"-0")
		if err := b.Remove(b.ctx, s, name+"-0"); err != nil {
			t.Fatal(err)
		}
		if _, _, err := b.ExecSync(b.ctx, s, "idle-0", []string{"true"}, 0, 0); err != nil {
			t.Fatal(err)
		}
	}
	worked := privateMemory(t, pid)
	t.Logf("private memory of the shim: %d KiB fresh, %d KiB after work", fresh>>10, worked>>10)
	if fresh > maxShimMemory || worked > maxShimMemory {
		t.Errorf("more than %d KiB", maxShimMemory>>10)
	}
}

func privateMemory(t *testing.T, pid int) int {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		t.Fatal(err)
	}
	sum := 0
	for line := range strings.Lines(string(data)) {
		if f := strings.Fields(line); strings.HasPrefix(f[0], "Private_") {
			kib, err := strconv.Atoi(f[1])
			if err != nil {
				t.Fatal(err)
			}
			sum += kib << 10
		}
	}
	return sum
}
