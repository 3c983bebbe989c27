package runc

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

	"golang.org/x/sys/unix"
)

// shimsCgroup is where the shims live when the agent itself has been put into a cgroup, as a service manager
// does: what stays in the agent's is killed with it.
const shimsCgroup = "/orlog/shims"

// shimHome says how to keep shims out of the agent's cgroup. The zero value leaves them where the agent is.
type shimHome struct {
	unified string // folder in the cgroup2 hierarchy, entered at birth
	systemd string // folder in systemd's own v1 hierarchy, entered after
}

// findShimHome makes the folders that are needed: none where the agent is in the root cgroup. self is
// /proc/self/cgroup's content.
func findShimHome(c cgroups, self []byte) (shimHome, error) {
	var home shimHome
	for sc := bufio.NewScanner(bytes.NewReader(self)); sc.Scan(); {
		parts := strings.SplitN(sc.Text(), ":", 3)
		if len(parts) != 3 || parts[2] == "/" {
			continue
		}
		switch {
		case parts[0] == "0" && c.unified != "":
			home.unified = filepath.Join(c.unified, shimsCgroup)
		case parts[1] == "name=systemd" && c.controllers["name=systemd"] != "":
			home.systemd = filepath.Join(c.controllers["name=systemd"], shimsCgroup)
		}
	}
	for _, dir := range []string{home.unified, home.systemd} {
		if dir == "" {
			continue
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return home, fmt.Errorf("runtime: cgroup for the shims: %w", err)
		}
	}
	return home, nil
}

// open returns a descriptor to be born into; -1 where there is none.
func (h shimHome) open() (int, error) {
	if h.unified == "" {
		return -1, nil
	}
	fd, err := unix.Open(h.unified, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if errors.Is(err, fs.ErrNotExist) { // somebody has tidied up
		if err = os.MkdirAll(h.unified, 0o755); err == nil {
			fd, err = unix.Open(h.unified, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		}
	}
	if err != nil {
		return -1, fmt.Errorf("cgroup for the shims: %w", err)
	}
	return fd, nil
}

// adopt moves a shim that was just born.
func (h shimHome) adopt(pid int) error {
	if h.systemd == "" {
		return nil
	}
	if err := os.WriteFile(filepath.Join(h.systemd, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0o644); err != nil {
		return fmt.Errorf("cgroup for the shims: %w", err)
	}
	return nil
}
