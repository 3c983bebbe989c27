package runc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/orlog-io/orlog/node/shim"
)

// pauseID is the container that holds a shared PID namespace. Callers do not see it.
const pauseID = "_pause"

// startPause starts the container whose one process is the first of the shared PID namespace: the shim's own
// binary, alone in its root. The process goes on record.
func (r *Runtime) startPause(ctx context.Context, p *pod, rec record) error {
	rec.Pause = 0 // its own namespace is new
	if err := r.discard(ctx, p, rec.Sandbox, pauseID); err != nil {
		return err
	}
	dir := shim.ContainerDir(r.podDir(p.id), pauseID)
	layer := filepath.Join(dir, "layer")
	if err := os.MkdirAll(layer, 0o755); err != nil {
		return err
	}
	c := Container{
		ID: pauseID, Name: "pause", Layers: []string{layer}, Args: []string{"/pause", "pause"}, OOMScoreAdj: -998,
		Env: []string{"GOMAXPROCS=1"},
		UID: 65535, GID: 65535,
		Mounts:   []Mount{{Source: r.opts.ShimPath, Target: "/pause", ReadOnly: true}},
		Security: Security{DropCapabilities: []string{"ALL"}, ReadOnlyRoot: true, Seccomp: SeccompRuntimeDefault},
	}
	shimPID, err := r.shimOf(ctx, p)
	if err != nil {
		return err
	}
	spec, err := buildSpec(c, r.surroundings(rec, shimPID))
	if err != nil {
		return err
	}
	if err := mountOverlay(dir, c.Layers); err != nil {
		return err
	}
	if err := writeJSON(filepath.Join(dir, specFile), spec); err != nil {
		return err
	}
	reply, err := r.call(ctx, p.id, shim.Request{Op: shim.OpRun, ID: pauseID, Run: r.runSpec(rec, c, dir)})
	if err != nil {
		return err
	}
	if st := reply.Containers[0]; st.State != Running {
		return fmt.Errorf("start the shared PID namespace: %s", st.Message)
	}
	rec.Pause = reply.Containers[0].PID
	return writeJSON(filepath.Join(r.podDir(p.id), sandboxFile), rec)
}

// mendPause starts the holder of a shared PID namespace again where it has died, and with it, by the kernel's doing,
// every process that was in there.
func (r *Runtime) mendPause(ctx context.Context, p *pod) error {
	rec, err := r.readSandbox(p.id)
	if err != nil || !rec.Sandbox.ShareProcessNamespace {
		return err
	}
	if alive, err := r.pauseAlive(ctx, p.id); alive || err != nil {
		return err
	}
	if err := r.stop(ctx, p.id, pauseID); err != nil {
		return err
	}
	return r.startPause(ctx, p, rec)
}

func (r *Runtime) pauseAlive(ctx context.Context, id string) (bool, error) {
	reply, err := r.call(ctx, id, shim.Request{Op: shim.OpStatus, ID: pauseID})
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return reply.Containers[0].State == shim.Running, nil
}

// Alive says whether the sandbox is complete: its shim runs, and the process that holds a shared PID namespace.
// Where it is not, OpenSandbox makes it so, after which its containers must be run again.
func (r *Runtime) Alive(ctx context.Context, sandboxID string) (bool, error) {
	rec, err := r.readSandbox(sandboxID)
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	alive, err := r.alive(ctx, sandboxID)
	if !alive || err != nil || !rec.Sandbox.ShareProcessNamespace {
		return alive, err
	}
	return r.pauseAlive(ctx, sandboxID)
}
