package runc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/orlog-io/orlog/node/shim"
)

const (
	hostnameFile = "hostname"
	shimPatience = 10 * time.Second
)

// OpenSandbox makes sure that the sandbox exists and that its shim runs: it starts one, or finds the one that
// runs. A sandbox whose shim has died is cleaned up first; its containers stay on record as exited and the caller
// runs new ones.
func (r *Runtime) OpenSandbox(ctx context.Context, s Sandbox) error {
	if err := s.validate(); err != nil {
		return err
	}
	p := r.pod(s.ID)
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.ctx.Err(); err != nil {
		return fmt.Errorf("sandbox %s: it is being closed", s.ID)
	}
	alive, err := r.alive(ctx, p.id)
	if err != nil {
		return err
	}
	if alive {
		r.watch(p)
		return r.mendPause(ctx, p)
	}
	if err := r.recover(ctx, p); err != nil {
		return err
	}
	if err := r.open(ctx, p, s); err != nil {
		return fmt.Errorf("open sandbox %s: %w", s.ID, err)
	}
	r.watch(p)
	return nil
}

// alive says whether the sandbox is of this boot and its shim answers.
func (r *Runtime) alive(ctx context.Context, id string) (bool, error) {
	rec, err := r.readSandbox(id)
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if rec.BootID != r.boot {
		return false, nil
	}
	_, err = r.hello(ctx, id)
	if errors.Is(err, ErrShimGone) {
		return false, nil
	}
	return err == nil, err
}

// shimOf is the process id of a pod's shim, which holds the pod's namespaces.
func (r *Runtime) shimOf(ctx context.Context, p *pod) (int, error) {
	if pid := p.shimPID.Load(); pid != 0 {
		return int(pid), nil
	}
	pid, err := r.hello(ctx, p.id)
	if err == nil {
		p.shimPID.Store(int64(pid))
	}
	return pid, err
}

// hello asks for the shim's process id, and so whether it works.
func (r *Runtime) hello(ctx context.Context, id string) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, r.patience)
	defer cancel()
	reply, err := r.call(ctx, id, shim.Request{Op: shim.OpHello})
	return reply.PID, err
}

// open makes the folder, the cgroup and the shim of a sandbox that has none.
func (r *Runtime) open(ctx context.Context, p *pod, s Sandbox) error {
	dir := r.podDir(p.id)
	for _, sub := range []string{"", "c", runcDir, shmDir} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			return err
		}
	}
	if s.LogDir != "" {
		if err := os.MkdirAll(s.LogDir, 0o755); err != nil {
			return fmt.Errorf("LogDir: %w", err)
		}
	}
	if err := r.cgroups.create(s.cgroup(), s.Resources); err != nil {
		return err
	}
	if !s.HostIPC {
		if err := mountShm(filepath.Join(dir, shmDir)); err != nil {
			return err
		}
	}
	if s.Hostname != "" && s.NetNS != "" {
		if err := os.WriteFile(filepath.Join(dir, hostnameFile), []byte(s.Hostname+"\n"), 0o644); err != nil {
			return err
		}
	}
	rec := record{Sandbox: s, BootID: r.boot}
	if err := writeJSON(filepath.Join(dir, sandboxFile), rec); err != nil {
		return err
	}
	pid, err := r.startShim(dir, s)
	if err != nil {
		return err
	}
	p.shimPID.Store(int64(pid))
	if !s.ShareProcessNamespace {
		return nil
	}
	return r.startPause(ctx, p, rec)
}

// mountShm mounts the pod's /dev/shm, once.
func mountShm(path string) error {
	if err := unmount(path); err != nil {
		return err
	}
	flags := uintptr(unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC)
	if err := unix.Mount("shm", path, "tmpfs", flags, "mode=1777,size=65536k"); err != nil {
		return fmt.Errorf("mount /dev/shm: %w", err)
	}
	return nil
}

// startShim starts the pod's shim in a session of its own and in the pod's own UTS and IPC namespaces, which it
// thereby holds. Its listening socket exists before it does, so that nobody has to wait for it.
func (r *Runtime) startShim(dir string, s Sandbox) (pid int, err error) {
	if err := os.Remove(filepath.Join(dir, shim.PIDFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return 0, err
	}
	listener, err := shim.Listen(dir)
	if err != nil {
		return 0, err
	}
	defer listener.Close()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return 0, err
	}
	defer null.Close()
	log, err := os.OpenFile(filepath.Join(dir, shim.LogFile), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return 0, err
	}
	defer log.Close()

	argv := []string{"orlog-shim", s.ID}
	var clone uintptr
	if !s.HostIPC {
		clone |= unix.CLONE_NEWIPC
	}
	if s.NetNS != "" {
		clone |= unix.CLONE_NEWUTS
		argv = append(argv, s.Hostname)
	}
	home, err := r.shims.open()
	if err != nil {
		return 0, err
	}
	if home >= 0 {
		defer unix.Close(home)
	}
	proc, err := os.StartProcess(r.opts.ShimPath, argv, &os.ProcAttr{
		Dir: dir,
		// One thread's worth of Go: the shim waits nearly all the time.
		Env:   []string{"GOMAXPROCS=1"},
		Files: []*os.File{null, null, log, listener},
		Sys: &syscall.SysProcAttr{
			Setsid: true, Cloneflags: clone, UseCgroupFD: home >= 0, CgroupFD: max(home, 0),
		},
	})
	if err != nil {
		return 0, fmt.Errorf("start the shim: %w", err)
	}
	// Reaped by whoever sees the shim's event connection end: a waiting thread for each pod would be waste.
	pid = proc.Pid // Release forgets it
	return pid, errors.Join(r.shims.adopt(pid), proc.Release())
}
