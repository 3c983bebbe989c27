package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// port checks that a port is free, or held by orlogd.
func (m *machine) port(address, flag string) Finding {
	err := m.try.Listen(address)
	switch {
	case err == nil:
		return ok(address + " is free")
	case errors.Is(err, syscall.EADDRINUSE):
		pid, name := m.holder(address)
		switch {
		case name == "orlogd":
			return ok(fmt.Sprintf("%s is orlogd's (pid %d)", address, pid))
		case pid == 0:
			return problem(address+" is taken", "find out by whom (ss -ltnp), or give orlogd another "+flag)
		}
		return problem(fmt.Sprintf("%s is taken by %s (pid %d)", address, name, pid), "stop it, or give orlogd another "+flag)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return problem(address+" is no address of this machine", "give orlogd another "+flag)
	case errors.Is(err, syscall.EACCES):
		return problem(address+": only root may listen there", "run orlogd as root")
	}
	return problem(err.Error(), "give orlogd another "+flag)
}

// holder is the process that listens on a port; 0 where it cannot be told.
func (m *machine) holder(address string) (pid int, name string) {
	_, text, err := net.SplitHostPort(address)
	if err != nil {
		return 0, ""
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return 0, ""
	}
	inodes := map[string]bool{}
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		lines, err := m.read(table)
		if err != nil {
			continue // no IPv6
		}
		for line := range strings.Lines(lines) {
			const listening = "0A"
			f := strings.Fields(line)
			if len(f) > 9 && f[3] == listening && strings.HasSuffix(f[1], fmt.Sprintf(":%04X", port)) {
				inodes["socket:["+f[9]+"]"] = true
			}
		}
	}
	found := errors.New("found")
	err = m.eachProcess(func(p int, exe string) error {
		entries, err := os.ReadDir(m.file(fmt.Sprintf("/proc/%d/fd", p)))
		if err != nil {
			return nil //nolint:nilerr // it ended, or is not ours to look at
		}
		for _, e := range entries {
			if to, err := os.Readlink(m.file(fmt.Sprintf("/proc/%d/fd/%s", p, e.Name()))); err == nil && inodes[to] {
				pid, name = p, filepath.Base(exe)
				return found
			}
		}
		return nil
	})
	if err != nil && !errors.Is(err, found) {
		return 0, ""
	}
	return pid, name
}

// eachProcess visits the processes that can be looked at, with the path of their program.
func (m *machine) eachProcess(visit func(pid int, exe string) error) error {
	entries, err := os.ReadDir(m.file("/proc"))
	if err != nil {
		return err
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		exe, err := os.Readlink(m.file(fmt.Sprintf("/proc/%d/exe", pid)))
		if err != nil {
			continue // a kernel thread, or it ended
		}
		if err := visit(pid, strings.TrimSuffix(exe, " (deleted)")); err != nil {
			return err
		}
	}
	return nil
}

func (m *machine) forwarding(context.Context) Finding {
	v, err := m.read("/proc/sys/net/ipv4/ip_forward")
	if errors.Is(err, fs.ErrNotExist) {
		return problem("the kernel has no IPv4", "use a kernel with CONFIG_INET")
	}
	if err != nil {
		return warning(err.Error(), "mount /proc")
	}
	if v == "1" {
		return ok("on")
	}
	if m.try.HasLink(m.Bridge) {
		return problem("off, though pods are here: they reach nothing beyond this machine", "sysctl net.ipv4.ip_forward=1, and find out what turned it off (/etc/sysctl.d)")
	}
	return ok("off; orlog-agent turns it on at its start")
}
