package runc

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// Sandbox is a pod as far as its containers share it.
type Sandbox struct {
	ID                    string // the pod's uid; also the name of its folder
	Namespace, Name       string
	Hostname              string            // of the pod's UTS namespace; not used with the host's network
	NetNS                 string            // path of the network namespace; empty: the host's, and its UTS namespace too
	CgroupParent          string            // absolute, in the cgroup hierarchy; empty: /orlog/pod<ID>
	LogDir                string            // where the containers' logs are; made if missing, removed by CloseSandbox's caller
	HostPID, HostIPC      bool              // the host's namespaces in place of the pod's own
	ShareProcessNamespace bool              // one PID namespace for all containers
	Sysctls               map[string]string // of the namespaces that the pod has for itself
	Labels                map[string]string // the caller's; kept and given back
	Resources             Resources         // limits of the whole pod
}

// Resources are limits of a container or of a whole pod; 0 is no limit.
type Resources struct {
	CPUShares   uint64 // relative weight, 1024 for one CPU's worth
	CPUQuota    int64  // microseconds of CPU time in each period
	CPUPeriod   uint64 // microseconds; 0 with a quota: 100000
	CPUSet      string // CPUs to run on, such as "0-1"; containers only
	MemoryBytes int64  // memory, no swap beside it
	PidsLimit   int64
	// Unified are cgroup v2 files to write as they are; containers only, ignored on v1.
	Unified map[string]string
}

// idPattern is what runc accepts as a container's name and what is safe as a folder's.
var idPattern = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.+-]*$`)

func (s Sandbox) validate() error {
	if !idPattern.MatchString(s.ID) {
		return fmt.Errorf("sandbox: ID %q: want letters, digits and _.+-", s.ID)
	}
	for field, path := range map[string]string{"NetNS": s.NetNS, "CgroupParent": s.CgroupParent, "LogDir": s.LogDir} {
		if path != "" && (!filepath.IsAbs(path) || filepath.Clean(path) != path) {
			return fmt.Errorf("sandbox %s: %s %q: want an absolute, clean path", s.ID, field, path)
		}
	}
	if s.CgroupParent == "/" {
		return fmt.Errorf("sandbox %s: CgroupParent must not be the root", s.ID)
	}
	if s.HostPID && s.ShareProcessNamespace {
		return fmt.Errorf("sandbox %s: HostPID and ShareProcessNamespace exclude each other", s.ID)
	}
	return nil
}

// cgroup is the pod's cgroup below each hierarchy's root.
func (s Sandbox) cgroup() string {
	if s.CgroupParent != "" {
		return s.CgroupParent
	}
	return "/orlog/pod" + s.ID
}

// record is sandbox.json.
type record struct {
	Sandbox Sandbox `json:"sandbox"`
	BootID  string  `json:"bootID"` // a sandbox of another boot has no process left
	Pause   int     `json:"pause,omitempty"`
}

const (
	sandboxFile = "sandbox.json"
	shmDir      = "shm"
	runcDir     = "runc"
)

func (r *Runtime) podDir(id string) string { return filepath.Join(r.opts.Dir, id) }

func (r *Runtime) readSandbox(id string) (record, error) {
	var rec record
	if !idPattern.MatchString(id) {
		return rec, fmt.Errorf("sandbox: ID %q: want letters, digits and _.+-", id)
	}
	data, err := os.ReadFile(filepath.Join(r.podDir(id), sandboxFile))
	if errors.Is(err, os.ErrNotExist) {
		return rec, fmt.Errorf("sandbox %s: %w", id, ErrNotFound)
	}
	if err != nil {
		return rec, fmt.Errorf("sandbox %s: %w", id, err)
	}
	if err := json.Unmarshal(data, &rec); err != nil {
		return rec, fmt.Errorf("sandbox %s: %s: %w", id, sandboxFile, err)
	}
	return rec, nil
}

// writeJSON writes a file whole or not at all. It is not forced to disk: what it describes ends with the machine.
func writeJSON(path string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if err := os.WriteFile(path+".new", data, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// bootID tells one boot of the machine from another.
func bootID() (string, error) {
	data, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("boot id: %w", err)
	}
	return strings.TrimSpace(string(data)), nil
}
