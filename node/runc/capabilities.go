package runc

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// capabilityNames are the kernel's, by number.
var capabilityNames = strings.Fields(`CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP
	LINUX_IMMUTABLE NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO
	SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE
	AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON
	BPF CHECKPOINT_RESTORE`)

// defaultCapabilities are what a container has where nothing else is said, as with Docker and containerd.
var defaultCapabilities = strings.Fields(`CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP
	SETPCAP NET_BIND_SERVICE SYS_CHROOT KILL AUDIT_WRITE`)

// capabilitySet is a set by name, without CAP_.
type capabilitySet map[string]bool

// ownCapabilities are those this process may hand on.
func ownCapabilities() (capabilitySet, error) {
	data, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return nil, fmt.Errorf("read own capabilities: %w", err)
	}
	for line := range strings.Lines(string(data)) {
		hex, ok := strings.CutPrefix(line, "CapPrm:")
		if !ok {
			continue
		}
		bits, err := strconv.ParseUint(strings.TrimSpace(hex), 16, 64)
		if err != nil {
			return nil, fmt.Errorf("read own capabilities: %w", err)
		}
		own := capabilitySet{}
		for i, name := range capabilityNames {
			if bits&(1<<i) != 0 {
				own[name] = true
			}
		}
		return own, nil
	}
	return nil, fmt.Errorf("read own capabilities: no CapPrm in /proc/self/status")
}

// capabilities works out a container's: all where privileged, else the default ones, less those dropped, and
// those added. Of what is asked for as ALL only what own has is given; a single one that own lacks is an error.
func capabilities(s Security, own capabilitySet) ([]string, error) {
	set := capabilitySet{}
	for _, name := range defaultCapabilities {
		set[name] = own[name]
	}
	if s.Privileged || named(s.AddCapabilities, "ALL") {
		for name := range own {
			set[name] = true
		}
	}
	if named(s.DropCapabilities, "ALL") && !s.Privileged {
		set = capabilitySet{}
		if named(s.AddCapabilities, "ALL") {
			for name := range own {
				set[name] = true
			}
		}
	}
	// Like Kubernetes' runtimes: what is added by name wins over ALL dropped, what is dropped by name over ALL added.
	for _, c := range s.AddCapabilities {
		name := capabilityName(c)
		if name == "ALL" {
			continue
		}
		if !known(name) {
			return nil, fmt.Errorf("capability %q is not one the kernel knows", c)
		}
		if !own[name] {
			return nil, fmt.Errorf("capability %s cannot be given: the node agent does not have it itself", name)
		}
		set[name] = true
	}
	if !s.Privileged {
		for _, c := range s.DropCapabilities {
			delete(set, capabilityName(c))
		}
	}
	var names []string
	for _, name := range capabilityNames {
		if set[name] {
			names = append(names, "CAP_"+name)
		}
	}
	return names, nil
}

func capabilityName(s string) string { return strings.TrimPrefix(strings.ToUpper(s), "CAP_") }

func known(name string) bool {
	for _, n := range capabilityNames {
		if n == name {
			return true
		}
	}
	return false
}

func named(list []string, name string) bool {
	for _, s := range list {
		if capabilityName(s) == name {
			return true
		}
	}
	return false
}
