package doctor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/orlog-io/orlog/node/runc"
)

// realAttempts tries on this machine.
type realAttempts struct{}

// apart runs f on a thread of its own, which may change its namespaces: the thread ends with it. Never the main
// thread: that one cannot end, and it is its namespaces that /proc/self and /proc/net tell of.
func apart(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			err := apart(f) // runs elsewhere, as this thread waits here
			runtime.UnlockOSThread()
			done <- err
			return
		}
		done <- f() // never unlocked: then the runtime ends the thread
	}()
	return <-done
}

var namespaceFlags = map[string]int{"mnt": unix.CLONE_NEWNS, "net": unix.CLONE_NEWNET, "pid": unix.CLONE_NEWPID,
	"uts": unix.CLONE_NEWUTS, "ipc": unix.CLONE_NEWIPC, "cgroup": unix.CLONE_NEWCGROUP}

// Namespaces implements attempts.
func (*realAttempts) Namespaces() map[string]error {
	out := map[string]error{}
	for name, flag := range namespaceFlags {
		out[name] = apart(func() error { return unix.Unshare(flag) })
	}
	return out
}

// Overlay implements attempts.
func (*realAttempts) Overlay(dir string) (err error) {
	at, err := os.MkdirTemp(dir, "orlog-doctor-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(at)) }()
	for _, d := range []string{"lower", "upper", "work", "merged"} {
		if err := os.Mkdir(filepath.Join(at, d), 0o700); err != nil {
			return err
		}
	}
	return apart(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
			return fmt.Errorf("mount namespace: %w", err)
		}
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			return fmt.Errorf("making / private: %w", err)
		}
		merged := filepath.Join(at, "merged")
		options := fmt.Sprintf("lowerdir=%[1]s/lower,upperdir=%[1]s/upper,workdir=%[1]s/work", at)
		if err := unix.Mount("overlay", merged, "overlay", 0, options); err != nil {
			return fmt.Errorf("mounting an overlay: %w", err)
		}
		err := os.WriteFile(filepath.Join(merged, "probe"), []byte("x"), 0o600)
		return errors.Join(err, unix.Unmount(merged, unix.MNT_DETACH))
	})
}

// Cgroup implements attempts.
func (*realAttempts) Cgroup(mount string) error {
	dir := filepath.Join(mount, "orlog-doctor-"+strconv.Itoa(os.Getpid()))
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	return os.Remove(dir)
}

// LowerOOMScore implements attempts.
func (*realAttempts) LowerOOMScore() error {
	const file = "/proc/self/oom_score_adj"
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	score, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return err
	}
	if err := os.WriteFile(file, []byte(strconv.Itoa(score-1)), 0); err != nil {
		return err
	}
	return os.WriteFile(file, b, 0)
}

// RaiseLimit implements attempts. One byte more of locked memory has no effect on us.
func (*realAttempts) RaiseLimit() error {
	var was unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &was); err != nil {
		return err
	}
	if was.Max == unix.RLIM_INFINITY {
		return nil
	}
	raised := was
	raised.Max++
	if err := unix.Setrlimit(unix.RLIMIT_MEMLOCK, &raised); err != nil {
		return err
	}
	return unix.Setrlimit(unix.RLIMIT_MEMLOCK, &was)
}

// Limits implements attempts.
func (*realAttempts) Limits() (soft, hard uint64, err error) {
	var l unix.Rlimit
	err = unix.Getrlimit(unix.RLIMIT_NOFILE, &l)
	return l.Cur, l.Max, err
}

// fsyncs is how many blocks are synced: enough for a median, few enough for a slow disk.
const fsyncs = 30

// Fsync implements attempts.
func (*realAttempts) Fsync(dir string) (took []time.Duration, err error) {
	f, err := os.CreateTemp(dir, ".orlog-doctor-*")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(f.Name())) }()
	block := bytes.Repeat([]byte{'x'}, 4096)
	for range fsyncs {
		start := time.Now()
		if _, err := f.Write(block); err != nil {
			return nil, err
		}
		if err := f.Sync(); err != nil {
			return nil, err
		}
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	return took, nil
}

// kinds are the file systems that matter, by the magic number that statfs gives.
var kinds = map[int64]string{unix.EXT4_SUPER_MAGIC: "ext4", unix.XFS_SUPER_MAGIC: "xfs", unix.BTRFS_SUPER_MAGIC: "btrfs", unix.TMPFS_MAGIC: "tmpfs",
	unix.RAMFS_MAGIC: "ramfs", unix.OVERLAYFS_SUPER_MAGIC: "overlay", unix.NFS_SUPER_MAGIC: "nfs", 0x2fc12fc1: "zfs"}

// Disk implements attempts.
func (*realAttempts) Disk(dir string) (disk, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return disk{}, fmt.Errorf("%s: %w", dir, err)
	}
	kind, known := kinds[int64(s.Type)] //nolint:unconvert // another type elsewhere than on amd64
	if !known {
		kind = fmt.Sprintf("file system %#x", s.Type)
	}
	block := uint64(s.Bsize)
	return disk{free: s.Bavail * block, size: s.Blocks * block, freeInodes: s.Ffree, sizeInodes: s.Files, kind: kind}, nil
}

// ClockSync implements attempts.
func (*realAttempts) ClockSync() (bool, error) {
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	if err != nil {
		return false, err
	}
	return state != unix.TIME_ERROR, nil
}

// clockWatch is how long the clocks are compared.
const clockWatch = 20 * time.Millisecond

// ClockStep implements attempts.
func (*realAttempts) ClockStep() time.Duration {
	start := time.Now()
	time.Sleep(clockWatch)
	end := time.Now()
	return end.Round(0).Sub(start.Round(0)) - end.Sub(start) // Round strips the monotonic reading
}

// Listen implements attempts.
func (*realAttempts) Listen(address string) error {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	return l.Close()
}

// Locked implements attempts.
func (*realAttempts) Locked(path string) (bool, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	err = unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return true, nil
	}
	return false, err
}

// outputTime bounds how long a program may take to say its version.
const outputTime = 10 * time.Second

// Output implements attempts.
func (*realAttempts) Output(ctx context.Context, env []string, stdin, path string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, outputTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env, cmd.Stdin = append(os.Environ(), env...), strings.NewReader(stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w %s", path, err, strings.TrimSpace(stderr.String()))
	}
	return strings.TrimSpace(string(out)), nil
}

// Runc implements attempts.
func (*realAttempts) Runc(path string) error { return runc.CheckRuntime(path) }
