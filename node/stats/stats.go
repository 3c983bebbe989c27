package stats

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/moby/sys/mountinfo"
)

// Usage is what a cgroup, with everything below it, uses.
type Usage struct {
	Time time.Time `json:"time"`
	// CPU is the processor time used since the cgroup was made.
	CPU time.Duration `json:"cpu"`
	// Memory is all memory charged to it, WorkingSet without the file cache that the kernel can drop at once, RSS
	// anonymous memory; all in bytes.
	Memory     uint64 `json:"memory"`
	WorkingSet uint64 `json:"workingSet"`
	RSS        uint64 `json:"rss"`
	// PageFaults and MajorFaults since the cgroup was made.
	PageFaults  uint64 `json:"pageFaults"`
	MajorFaults uint64 `json:"majorFaults"`
}

// ErrNotFound: there is no such cgroup.
var ErrNotFound = errors.New("cgroup not found")

// Reader knows where the machine's cgroups are. Its methods may be called from many goroutines.
type Reader struct {
	unified     string // of version 2, with the memory controller; "" otherwise
	cpu, memory string // of version 1
}

// New finds the cgroup hierarchies of the machine.
func New() (*Reader, error) {
	mounts, err := mountinfo.GetMounts(mountinfo.FSTypeFilter("cgroup", "cgroup2"))
	if err != nil {
		return nil, fmt.Errorf("cgroups: %w", err)
	}
	r := &Reader{}
	for _, m := range mounts {
		if m.FSType == "cgroup2" {
			controllers, err := os.ReadFile(filepath.Join(m.Mountpoint, "cgroup.controllers"))
			if err == nil && bytes.Contains(controllers, []byte("memory")) {
				r.unified = m.Mountpoint
			}
			continue
		}
		for _, option := range strings.Split(m.VFSOptions, ",") {
			switch option {
			case "cpuacct":
				r.cpu = m.Mountpoint
			case "memory":
				r.memory = m.Mountpoint
			}
		}
	}
	if r.unified == "" && (r.cpu == "" || r.memory == "") {
		return nil, errors.New("cgroups: neither version 2 nor cpuacct and memory of version 1 is mounted")
	}
	return r, nil
}

// Read returns what a cgroup uses now. Errors match ErrNotFound where it is gone.
func (r *Reader) Read(cgroup string) (Usage, error) {
	read := r.readV1
	if r.unified != "" {
		read = r.readV2
	}
	u, err := read(cgroup)
	if errors.Is(err, fs.ErrNotExist) {
		err = ErrNotFound
	}
	if err != nil {
		return Usage{}, fmt.Errorf("usage of %s: %w", cgroup, err)
	}
	u.Time = time.Now()
	return u, nil
}

func (r *Reader) readV2(cgroup string) (u Usage, err error) {
	dir := filepath.Join(r.unified, cgroup)
	cpu, err := table(filepath.Join(dir, "cpu.stat"))
	if err != nil {
		return u, err
	}
	memory, err := table(filepath.Join(dir, "memory.stat"))
	if err != nil {
		return u, err
	}
	if u.Memory, err = number(filepath.Join(dir, "memory.current")); err != nil {
		return u, err
	}
	u.CPU = time.Duration(cpu["usage_usec"]) * time.Microsecond
	u.fill(memory["inactive_file"], memory["anon"], memory["pgfault"], memory["pgmajfault"])
	return u, nil
}

func (r *Reader) readV1(cgroup string) (u Usage, err error) {
	nanos, err := number(filepath.Join(r.cpu, cgroup, "cpuacct.usage"))
	if err != nil {
		return u, err
	}
	dir := filepath.Join(r.memory, cgroup)
	memory, err := table(filepath.Join(dir, "memory.stat"))
	if err != nil {
		return u, err
	}
	if u.Memory, err = number(filepath.Join(dir, "memory.usage_in_bytes")); err != nil {
		return u, err
	}
	u.CPU = time.Duration(nanos)
	u.fill(memory["total_inactive_file"], memory["total_rss"], memory["total_pgfault"], memory["total_pgmajfault"])
	return u, nil
}

func (u *Usage) fill(inactive, rss, faults, major uint64) {
	u.WorkingSet, u.RSS, u.PageFaults, u.MajorFaults = u.Memory-min(inactive, u.Memory), rss, faults, major
}

func number(path string) (uint64, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", path, err)
	}
	return n, nil
}

// table reads lines of a name and a number.
func table(path string) (map[string]uint64, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	out := map[string]uint64{}
	for scan := bufio.NewScanner(bytes.NewReader(b)); scan.Scan(); {
		name, value, two := strings.Cut(scan.Text(), " ")
		n, err := strconv.ParseUint(value, 10, 64)
		if !two || err != nil {
			continue // not every line is a number
		}
		out[name] = n
	}
	return out, nil
}
