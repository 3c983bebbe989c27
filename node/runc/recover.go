package runc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/orlog-io/orlog/node/shim"
)

// recoverPatience bounds how long killed processes may take to end.
const recoverPatience = 30 * time.Second

// recover brings a sandbox without a living shim into a state that can be reported and opened again: no process
// of it is left, and every container that ran is on record as exited. The pod is locked.
func (r *Runtime) recover(ctx context.Context, p *pod) error {
	p.shimPID.Store(0)
	rec, err := r.readSandbox(p.id)
	if errors.Is(err, ErrNotFound) {
		return r.endShim(p.id) // opened half-way
	}
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, recoverPatience)
	defer cancel()
	if rec.BootID == r.boot {
		if err := r.endShim(p.id); err != nil {
			return err
		}
		if err := r.cgroups.kill(ctx, rec.Sandbox.cgroup()); err != nil {
			return fmt.Errorf("sandbox %s: %w", p.id, err)
		}
	}
	return r.recordLost(rec)
}

// recordLost writes an exit for every container that was running when nobody watched it end.
func (r *Runtime) recordLost(rec record) error {
	podDir := r.podDir(rec.Sandbox.ID)
	entries, err := os.ReadDir(filepath.Join(podDir, "c"))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("sandbox %s: %w", rec.Sandbox.ID, err)
	}
	for _, e := range entries {
		dir := shim.ContainerDir(podDir, e.Name())
		st, err := shim.ReadStatus(dir)
		if errors.Is(err, os.ErrNotExist) {
			continue // never started
		}
		if err != nil {
			// An unreadable record is a lost one.
			st = shim.Status{ID: e.Name()}
		}
		if st.State == Exited {
			continue
		}
		st.State, st.FinishedAt, st.Reason = Exited, time.Now(), ReasonUnknown
		if rec.BootID == r.boot {
			st.ExitCode, st.Signal = 128+int(unix.SIGKILL), int(unix.SIGKILL)
			st.Message = "the pod's shim died; the container was killed because nobody watched it any more"
		} else {
			st.ExitCode, st.Signal = 255, 0
			st.Message = "the node was restarted"
		}
		if err := shim.WriteStatus(dir, st, true); err != nil {
			return fmt.Errorf("sandbox %s: %w", rec.Sandbox.ID, err)
		}
	}
	return nil
}

// endShim makes sure that the shim on record is no more: one that hangs is killed, one that has died is reaped
// where this process is its parent.
func (r *Runtime) endShim(id string) error {
	data, err := os.ReadFile(filepath.Join(r.podDir(id), shim.PIDFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("sandbox %s: %w", id, err)
	}
	var pid int
	var start string
	if _, err := fmt.Sscan(string(data), &pid, &start); err != nil || pid < 2 {
		return nil // the machine went down while it was written
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("sandbox %s: shim %d: %w", id, pid, err)
	}
	defer unix.Close(fd)
	// The start time says that it is the shim and not a later process of the same number.
	if now, err := shim.StartTime(pid); err != nil || now != start {
		return nil
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("sandbox %s: kill shim %d: %w", id, pid, err)
	}
	return waitPidfd(fd, pid, recoverPatience)
}

// waitPidfd waits for a process to end, and reaps it if it is a child.
func waitPidfd(fd, pid int, patience time.Duration) error {
	deadline := time.Now().Add(patience)
	for {
		left := time.Until(deadline)
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(max(left, 0).Milliseconds()))
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("wait for process %d: %w", pid, err)
		}
		if n == 0 {
			return fmt.Errorf("wait for process %d: still there after %s", pid, patience)
		}
		_, _ = unix.Wait4(pid, nil, unix.WNOHANG, nil) // ECHILD where it is somebody else's
		return nil
	}
}
