package runc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"

	"github.com/orlog-io/orlog/node/shim"
)

const (
	containerFile = "container.json"
	specFile      = "config.json"
)

// Run starts a container and returns when it runs or could not be started; of a container whose ID is known, it
// starts nothing and returns the status. Where runc refuses, the status is an exited one and the error a
// *StartError; after any other error nothing of the container is left and Run may be called again. A Run that ctx
// cuts short goes on in the shim: the next one joins it.
func (r *Runtime) Run(ctx context.Context, sandboxID string, c Container) (Status, error) {
	if err := c.validate(); err != nil {
		return Status{}, err
	}
	if c.ID == pauseID {
		return Status{}, fmt.Errorf("container %s: the name is reserved", c.ID)
	}
	if _, err := r.readSandbox(sandboxID); err != nil {
		return Status{}, err
	}
	p, leave, err := r.enter(ctx, sandboxID, c.ID)
	if err != nil {
		return Status{}, err
	}
	defer leave()
	rec, err := r.readSandbox(sandboxID) // again: it may have been opened anew meanwhile
	if err != nil {
		return Status{}, err
	}
	return r.run(ctx, p, rec, c)
}

// enter takes a container's lock within its sandbox.
func (r *Runtime) enter(ctx context.Context, sandboxID, containerID string) (*pod, func(), error) {
	p := r.pod(sandboxID)
	p.mu.RLock()
	unlock, err := p.keys.lock(ctx, containerID)
	if err == nil && p.ctx.Err() != nil {
		unlock()
		err = errors.New("it is being closed")
	}
	if err != nil {
		p.mu.RUnlock()
		return nil, nil, fmt.Errorf("sandbox %s: container %s: %w", sandboxID, containerID, err)
	}
	return p, func() {
		unlock()
		p.mu.RUnlock()
	}, nil
}

func (r *Runtime) run(ctx context.Context, p *pod, rec record, c Container) (Status, error) {
	ctx, stop := mergeDone(ctx, p.ctx)
	defer stop()
	s := rec.Sandbox
	known, ok, err := r.known(ctx, p, rec, c.ID)
	if err != nil {
		return Status{}, err
	}
	if ok && known.State != Created {
		return known, nil
	}
	dir := shim.ContainerDir(r.podDir(p.id), c.ID)
	if !ok {
		if err := r.prepare(ctx, p, rec, c, dir); err != nil {
			return Status{}, errors.Join(err, r.discard(ctx, p, s, c.ID))
		}
	}
	reply, err := r.call(ctx, p.id, shim.Request{Op: shim.OpRun, ID: c.ID, Run: r.runSpec(rec, c, dir)})
	if err != nil {
		return Status{}, err
	}
	status := c.status(reply.Containers[0], s.containerCgroup(c.ID))
	if !ok && status.State == Exited && status.Reason == ReasonStartError {
		return status, &StartError{Container: c.Name, Message: status.Message}
	}
	return status, nil
}

// known looks a container up, in the shim and on disk. What was prepared but never reached the shim is thrown
// away.
func (r *Runtime) known(ctx context.Context, p *pod, rec record, id string) (Status, bool, error) {
	dir := shim.ContainerDir(r.podDir(p.id), id)
	if _, err := os.Lstat(dir); errors.Is(err, os.ErrNotExist) {
		return Status{}, false, nil
	}
	c, err := readContainer(dir)
	if err == nil {
		reply, err := r.call(ctx, p.id, shim.Request{Op: shim.OpStatus, ID: id})
		if err == nil {
			return c.status(reply.Containers[0], rec.Sandbox.containerCgroup(id)), true, nil
		}
		if !errors.Is(err, ErrNotFound) {
			return Status{}, false, err
		}
		if st, err := shim.ReadStatus(dir); err == nil && st.State == Exited {
			return c.status(st, rec.Sandbox.containerCgroup(id)), true, nil
		}
	} else if !errors.Is(err, os.ErrNotExist) {
		return Status{}, false, err
	}
	return Status{}, false, r.discard(ctx, p, rec.Sandbox, id)
}

func readContainer(dir string) (Container, error) {
	var c Container
	data, err := os.ReadFile(filepath.Join(dir, containerFile))
	if err != nil {
		return c, err
	}
	if err := json.Unmarshal(data, &c); err != nil {
		return c, fmt.Errorf("%s: %w", filepath.Join(dir, containerFile), err)
	}
	return c, nil
}

func (s Sandbox) containerCgroup(id string) string { return filepath.Join(s.cgroup(), id) }

// prepare makes the bundle: the overlay, config.json and last container.json, which makes it count.
func (r *Runtime) prepare(ctx context.Context, p *pod, rec record, c Container, dir string) error {
	shimPID, err := r.shimOf(ctx, p)
	if err != nil {
		return err
	}
	around := r.surroundings(rec, shimPID)
	if c.PIDOf != "" {
		if around.targetPID, err = r.pidOf(ctx, rec, c.PIDOf); err != nil {
			return fmt.Errorf("container %s (%s): %w", c.ID, c.Name, err)
		}
	}
	spec, err := buildSpec(c, around)
	if err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return fmt.Errorf("container %s: %w", c.ID, err)
	}
	if err := mountOverlay(dir, c.Layers); err != nil {
		return fmt.Errorf("container %s: %w", c.ID, err)
	}
	if err := writeJSON(filepath.Join(dir, specFile), spec); err != nil {
		return fmt.Errorf("container %s: %w", c.ID, err)
	}
	if err := writeJSON(filepath.Join(dir, containerFile), c); err != nil {
		return fmt.Errorf("container %s: %w", c.ID, err)
	}
	return nil
}

// pidOf is the first process of a running container of the pod.
func (r *Runtime) pidOf(ctx context.Context, rec record, id string) (int, error) {
	reply, err := r.call(ctx, rec.Sandbox.ID, shim.Request{Op: shim.OpStatus, ID: id})
	if err != nil {
		return 0, fmt.Errorf("the container whose processes it shall see, %s: %w", id, err)
	}
	if st := reply.Containers[0]; st.State == Running {
		return st.PID, nil
	}
	return 0, fmt.Errorf("the container whose processes it shall see, %s: %w", id, ErrNotRunning)
}

func (r *Runtime) surroundings(rec record, shimPID int) surroundings {
	return surroundings{
		sandbox: rec.Sandbox, podDir: r.podDir(rec.Sandbox.ID), shimPID: shimPID, pausePID: rec.Pause,
		cgroup: rec.Sandbox.cgroup(), cgroupV2: r.cgroups.v2, own: r.own, oomScoreMin: r.oomScoreMin,
		devices: allDevices,
		exists: func(path string) bool {
			_, err := os.Lstat(path)
			return err == nil
		},
	}
}

func (r *Runtime) runSpec(rec record, c Container, dir string) *shim.RunSpec {
	cgroup := rec.Sandbox.containerCgroup(c.ID)
	return &shim.RunSpec{
		ID: c.ID, Runc: r.runc(rec.Sandbox.ID), Dir: dir,
		LogPath: c.LogPath, LogMaxSize: r.opts.LogMaxSize, LogFiles: r.opts.LogFiles,
		TTY: c.TTY, Stdin: c.Stdin, StdinOnce: c.StdinOnce,
		SharedPID: rec.Sandbox.HostPID || c.PIDOf != "" || rec.Pause != 0 && c.ID != pauseID,
		ProcsFile: r.cgroups.procsFile(cgroup), OOMFile: r.cgroups.oomFile(cgroup),
	}
}

func (r *Runtime) runc(sandboxID string) shim.Runc {
	return shim.Runc{Path: r.opts.RuncPath, Root: filepath.Join(r.podDir(sandboxID), runcDir)}
}

// Status returns every container of the sandbox, whatever its state, by name and attempt. A sandbox whose shim
// has died is cleaned up first.
func (r *Runtime) Status(ctx context.Context, sandboxID string) ([]Status, error) {
	rec, err := r.readSandbox(sandboxID)
	if err != nil {
		return nil, err
	}
	reply, err := r.call(ctx, sandboxID, shim.Request{Op: shim.OpStatus})
	if errors.Is(err, ErrShimGone) {
		p := r.pod(sandboxID)
		p.mu.Lock()
		defer p.mu.Unlock()
		if reply, err = r.call(ctx, sandboxID, shim.Request{Op: shim.OpStatus}); errors.Is(err, ErrShimGone) {
			err = r.recover(ctx, p)
		}
	}
	if err != nil {
		return nil, err
	}
	return r.merge(rec, reply.Containers)
}

// merge joins what the shim knows with what is on disk: the shim may be younger than some of its containers.
func (r *Runtime) merge(rec record, live []shim.Status) ([]Status, error) {
	byID := map[string]shim.Status{}
	for _, s := range live {
		byID[s.ID] = s
	}
	podDir := r.podDir(rec.Sandbox.ID)
	entries, err := os.ReadDir(filepath.Join(podDir, "c"))
	if err != nil {
		return nil, fmt.Errorf("sandbox %s: %w", rec.Sandbox.ID, err)
	}
	var out []Status
	for _, e := range entries {
		dir := shim.ContainerDir(podDir, e.Name())
		c, err := readContainer(dir)
		if errors.Is(err, os.ErrNotExist) {
			continue // being made, being removed, or not for the eyes of callers
		}
		if err != nil {
			return nil, fmt.Errorf("sandbox %s: %w", rec.Sandbox.ID, err)
		}
		st, ok := byID[c.ID]
		if !ok {
			if st, err = shim.ReadStatus(dir); err != nil || st.State != Exited {
				continue // prepared, and never started
			}
		}
		out = append(out, c.status(st, rec.Sandbox.containerCgroup(c.ID)))
	}
	sort.Slice(out, func(i, j int) bool {
		if out[i].Name != out[j].Name {
			return out[i].Name < out[j].Name
		}
		return out[i].Attempt < out[j].Attempt
	})
	return out, nil
}

// mergeDone returns a context of the first that ends with either.
func mergeDone(ctx, other context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(other, func() { cancel(fmt.Errorf("the sandbox is being closed: %w", context.Canceled)) })
	return ctx, func() {
		stop()
		cancel(nil)
	}
}
