package network

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// podSysctls hold in every sandbox. Unprivileged users of a pod may bind any port and send pings, as with
// containerd and Docker: the namespace is the boundary, not the port number. Redirects are ignored because a pod's
// every packet is meant to pass the host (see doc.go).
var podSysctls = map[string]string{
	"net/ipv4/ip_unprivileged_port_start":    "0",
	"net/ipv4/ping_group_range":              "0 2147483647",
	"net/ipv4/conf/all/accept_redirects":     "0",
	"net/ipv4/conf/default/accept_redirects": "0",
}

// createNetNS makes a network namespace with lo up and pins it at path, which must not exist yet.
func createNetNS(path string) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDONLY, 0o600)
	if err != nil {
		return fmt.Errorf("network: pin namespace: %w", err)
	}
	file.Close()
	err = onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("unshare: %w", err)
		}
		if err := configureNetNS(); err != nil {
			return err
		}
		if err := unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("bind mount on %s: %w", path, err)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("network: create namespace: %w", errors.Join(err, removeNetNS(path)))
	}
	return nil
}

// configureNetNS prepares the calling thread's namespace.
func configureNetNS() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("lo: %w", err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return fmt.Errorf("lo up: %w", err)
	}
	for name, value := range podSysctls {
		if err := setSysctl(name, value); err != nil {
			return err
		}
	}
	return nil
}

// removeNetNS unpins a namespace. What still runs in it keeps it alive; a path that is not there is fine.
func removeNetNS(path string) error {
	// A file may carry several mounts if an earlier attempt was interrupted between mount and record.
	for pinned(path) {
		if err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
			return fmt.Errorf("network: unpin %s: %w", path, err)
		}
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("network: unpin: %w", err)
	}
	return nil
}

// pinned says whether path is a namespace, rather than the empty file that is left after a reboot.
func pinned(path string) bool {
	var st unix.Statfs_t
	return unix.Statfs(path, &st) == nil && st.Type == unix.NSFS_MAGIC
}

// onThread runs fn on a thread of its own, which ends with fn: fn may move it to another namespace.
func onThread(fn func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the runtime then ends the thread with the goroutine
		done <- fn()
	}()
	return <-done
}

// inNetNS runs fn on a thread inside the namespace pinned at path.
func inNetNS(path string, fn func() error) error {
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("network: open namespace: %w", err)
	}
	defer file.Close()
	return onThread(func() error {
		if err := unix.Setns(int(file.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("network: enter namespace %s: %w", path, err)
		}
		return fn()
	})
}

// setSysctl writes /proc/sys/<name>, for the namespace of the calling thread, if it holds something else.
func setSysctl(name, value string) error {
	path := "/proc/sys/" + name
	if err := os.WriteFile(path, []byte(value), 0); err != nil {
		return fmt.Errorf("network: sysctl %s=%s: %w", name, value, err)
	}
	return nil
}
