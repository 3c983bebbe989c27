package doctor

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// traces are what a node's agent and its pods have made of the machine.
type traces struct {
	mounts, namespaces, shims, cgroups int
	bridge                             bool
	tables                             []string
}

func (t traces) String() string {
	var parts []string
	for _, c := range []struct {
		n    int
		what string
	}{{t.shims, "pod"}, {t.mounts, "mount"}, {t.namespaces, "network namespace"}, {t.cgroups, "cgroup"}} {
		switch {
		case c.n == 1:
			parts = append(parts, "1 "+c.what)
		case c.n > 1:
			parts = append(parts, fmt.Sprintf("%d %ss", c.n, c.what))
		}
	}
	if t.bridge {
		parts = append(parts, "the bridge")
	}
	if len(t.tables) > 0 {
		parts = append(parts, "nftables "+strings.Join(t.tables, ", "))
	}
	return strings.Join(parts, ", ")
}

// leftovers looks for what an Orlog that does not run has left behind.
func (m *machine) leftovers(ctx context.Context) Finding {
	t, err := m.traces(ctx)
	if err != nil {
		return warning(err.Error(), "run orlog doctor as root")
	}
	running, err := m.try.Locked(m.file(filepath.Join(m.NodeDir, "lock")))
	if err != nil {
		return warning(err.Error(), "run orlog doctor as root")
	}
	reset := "orlog-agent reset --data-dir " + m.NodeDir
	switch text := t.String(); {
	case text == "" && running:
		return ok("orlog-agent runs, without pods")
	case text == "":
		return ok("none")
	case running:
		return ok("none: orlog-agent runs, with " + text)
	case t.shims > 0:
		return warning("orlog-agent does not run, but its pods do: "+text, "start orlog-agent again to look after them, or end them with "+reset)
	case t.mounts == 0 && t.namespaces == 0 && m.otherAgent() != 0:
		return ok(fmt.Sprintf("none in %s; there is %s, of the orlog-agent with pid %d", m.NodeDir, text, m.otherAgent()))
	default:
		return warning("no orlog-agent runs, but there are "+text, "start orlog-agent again, or remove them with "+reset)
	}
}

func (m *machine) traces(ctx context.Context) (t traces, err error) {
	mounts, err := m.readMounts()
	if err != nil {
		return t, err
	}
	for _, mount := range mounts {
		switch {
		case !strings.HasPrefix(mount[0], m.NodeDir+"/"):
		case mount[1] == "nsfs":
			t.namespaces++
		default:
			t.mounts++
		}
	}
	if err := m.eachProcess(func(pid int, exe string) error {
		if filepath.Base(exe) == "orlog-shim" && m.belongs(pid) {
			t.shims++
		}
		return nil
	}); err != nil {
		return t, err
	}
	h, err := m.hierarchies()
	if err != nil {
		return t, err
	}
	// The same pods have a cgroup in every hierarchy: the fullest counts.
	for _, at := range h.all() {
		entries, err := os.ReadDir(m.file(filepath.Join(at, m.CgroupRoot)))
		if err != nil {
			continue // none there
		}
		n := 0
		for _, e := range entries {
			if e.IsDir() {
				n++
			}
		}
		t.cgroups = max(t.cgroups, n)
	}
	t.bridge = m.try.HasLink(m.Bridge)
	if m.euid != 0 {
		return t, nil
	}
	tables, err := m.try.Tables(ctx)
	if err != nil {
		return t, nil //nolint:nilerr // the check of nftables says so
	}
	for _, name := range tables {
		if strings.HasPrefix(name, m.Table+"-") {
			t.tables = append(t.tables, name)
		}
	}
	slices.Sort(t.tables)
	return t, nil
}

// belongs reports whether a shim works in the node's folder, which is where it stands.
func (m *machine) belongs(pid int) bool {
	cwd, err := os.Readlink(m.file(fmt.Sprintf("/proc/%d/cwd", pid)))
	return err == nil && strings.HasPrefix(cwd, m.NodeDir+"/")
}

// otherAgent is the pid of an orlog-agent, whatever its folder; 0 for none.
func (m *machine) otherAgent() (found int) {
	err := m.eachProcess(func(pid int, exe string) error {
		if filepath.Base(exe) == "orlog-agent" {
			found = pid
		}
		return nil
	})
	if err != nil {
		return 0
	}
	return found
}
