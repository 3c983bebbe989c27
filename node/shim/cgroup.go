package shim

import (
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// oomKills reads how often the kernel killed for want of memory in a cgroup: the oom_kill line that both
// memory.oom_control (v1) and memory.events (v2) have.
func oomKills(file string) int {
	if file == "" {
		return 0
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return 0 // the container never got as far as a cgroup
	}
	for line := range strings.Lines(string(data)) {
		if n, ok := strings.CutPrefix(line, "oom_kill "); ok {
			kills, _ := strconv.Atoi(strings.TrimSpace(n))
			return kills
		}
	}
	return 0
}

// killAll kills every process listed in a cgroup.procs file, again until none is left or the list cannot be
// read; processes that fork faster than they are killed get a few rounds.
func killAll(procs string) {
	if procs == "" {
		return
	}
	for range 10 {
		data, err := os.ReadFile(procs)
		if err != nil || len(data) == 0 {
			return
		}
		for _, field := range strings.Fields(string(data)) {
			if pid, err := strconv.Atoi(field); err == nil && pid > 1 {
				unix.Kill(pid, unix.SIGKILL)
			}
		}
	}
}
