package runc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/orlog-io/orlog/node/shim"
)

// Signal sends a signal to a container's first process. ErrNotRunning is in the chain of the error where it has
// exited, ErrNotFound where it is unknown.
func (r *Runtime) Signal(ctx context.Context, sandboxID, containerID string, sig syscall.Signal) error {
	if _, err := r.readSandbox(sandboxID); err != nil {
		return err
	}
	_, err := r.call(ctx, sandboxID, shim.Request{Op: shim.OpSignal, ID: containerID, Signal: int(sig)})
	if errors.Is(err, ErrShimGone) {
		return fmt.Errorf("%w: %w", ErrNotRunning, err)
	}
	return err
}

// Wait returns a container's status when it has exited.
func (r *Runtime) Wait(ctx context.Context, sandboxID, containerID string) (Status, error) {
	rec, err := r.readSandbox(sandboxID)
	if err != nil {
		return Status{}, err
	}
	if _, err := r.call(ctx, sandboxID, shim.Request{Op: shim.OpWait, ID: containerID}); err != nil &&
		!errors.Is(err, ErrShimGone) && !errors.Is(err, ErrNotFound) {
		return Status{}, err
	}
	all, err := r.Status(ctx, rec.Sandbox.ID)
	if err != nil {
		return Status{}, err
	}
	for _, s := range all {
		if s.ID == containerID {
			return s, nil
		}
	}
	return Status{}, fmt.Errorf("sandbox %s: container %s: %w", sandboxID, containerID, ErrNotFound)
}

// Remove takes a container away: what runs of it is killed, then its mounts, its cgroup, its writable layer and
// its record go. Its log stays. A container that does not exist is no error.
func (r *Runtime) Remove(ctx context.Context, sandboxID, containerID string) error {
	if !idPattern.MatchString(containerID) {
		return fmt.Errorf("container: ID %q: want letters, digits and _.+-", containerID)
	}
	rec, err := r.readSandbox(sandboxID)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	p, leave, err := r.enter(ctx, sandboxID, containerID)
	if err != nil {
		return err
	}
	defer leave()
	if err := r.stop(ctx, sandboxID, containerID); err != nil {
		return err
	}
	return r.discard(ctx, p, rec.Sandbox, containerID)
}

// stop kills a container, waits for its end and has the shim forget it.
func (r *Runtime) stop(ctx context.Context, sandboxID, containerID string) error {
	for _, req := range []shim.Request{
		{Op: shim.OpSignal, ID: containerID, Signal: int(killSignal)},
		{Op: shim.OpWait, ID: containerID},
		{Op: shim.OpForget, ID: containerID},
	} {
		_, err := r.call(ctx, sandboxID, req)
		switch {
		case err == nil, errors.Is(err, ErrNotRunning):
		case errors.Is(err, ErrNotFound), errors.Is(err, ErrShimGone):
			return nil
		default:
			return err
		}
	}
	return nil
}

// discard removes what a container, which no longer runs, has on the machine. It may be called again after
// failing anywhere. runc has no part in it: a process of its own only to remove folders would cost more than
// everything here together.
func (r *Runtime) discard(ctx context.Context, p *pod, s Sandbox, id string) error {
	dir := shim.ContainerDir(r.podDir(p.id), id)
	fail := func(err error) error { return fmt.Errorf("remove container %s: %w", id, err) }
	// Without container.json the container no longer counts, however far the rest gets.
	if err := os.Remove(filepath.Join(dir, containerFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fail(err)
	}
	cgroup := s.containerCgroup(id)
	if err := r.cgroups.kill(ctx, cgroup); err != nil {
		return fail(err)
	}
	if err := r.cgroups.remove(ctx, cgroup); err != nil {
		return fail(err)
	}
	if err := unmount(filepath.Join(dir, rootfsDir)); err != nil {
		return fail(err)
	}
	if err := os.RemoveAll(filepath.Join(r.podDir(p.id), runcDir, id)); err != nil {
		return fail(err)
	}
	if err := os.RemoveAll(dir); err != nil {
		return fail(err)
	}
	return nil
}

// CloseSandbox kills what runs in the sandbox and removes everything of it: containers, shim, mounts, cgroups,
// files. The logs and the network namespace are the caller's. A sandbox that does not exist is no error.
func (r *Runtime) CloseSandbox(ctx context.Context, sandboxID string) error {
	if !idPattern.MatchString(sandboxID) {
		return fmt.Errorf("sandbox: ID %q: want letters, digits and _.+-", sandboxID)
	}
	p := r.pod(sandboxID)
	p.cancel() // whoever is at work in the sandbox lets go
	p.mu.Lock()
	defer p.mu.Unlock()
	defer r.drop(p) // a failed close is taken up again with a new pod value
	dir := r.podDir(sandboxID)
	if _, err := os.Lstat(dir); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err := r.closeSandbox(ctx, p, dir); err != nil {
		return fmt.Errorf("close sandbox %s: %w", sandboxID, err)
	}
	return nil
}

func (r *Runtime) closeSandbox(ctx context.Context, p *pod, dir string) error {
	rec, err := r.readSandbox(p.id)
	if errors.Is(err, ErrNotFound) {
		rec.Sandbox = Sandbox{ID: p.id} // opened half-way: nothing ran
	} else if err != nil {
		return err
	}
	// Asked first, so that nothing is started any more; what the shim cannot kill in time dies below.
	asked, cancel := context.WithTimeout(ctx, r.patience)
	_, err = r.call(asked, p.id, shim.Request{Op: shim.OpShutdown})
	cancel()
	if err != nil && !errors.Is(err, ErrShimGone) {
		r.opts.Warn("the shim did not shut down; killing it", "sandbox", p.id, "error", err)
	}
	if err := r.endShim(p.id); err != nil {
		return err
	}
	if err := r.cgroups.kill(ctx, rec.Sandbox.cgroup()); err != nil {
		return err
	}
	entries, err := os.ReadDir(filepath.Join(dir, "c"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		if err := r.discard(ctx, p, rec.Sandbox, e.Name()); err != nil {
			return err
		}
	}
	if err := r.cgroups.remove(ctx, rec.Sandbox.cgroup()); err != nil {
		return err
	}
	// A file removed through a forgotten mount would be somebody else's.
	if err := unmountBelow(dir); err != nil {
		return err
	}
	return os.RemoveAll(dir)
}
