package shim

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// reaper collects every child of the shim: the runc processes it starts, the containers' first processes that
// fall to it when runc ends, and orphans of pods without a PID namespace of their own. One waiter for all, on
// SIGCHLD: a blocking wait for each would hold a thread for each.
type reaper struct {
	mu       sync.Mutex
	waiters  map[int]chan syscall.WaitStatus
	starting int // while not 0, children that nobody waits for yet stay zombies, so that their ids stay theirs
}

func newReaper() *reaper {
	return &reaper{waiters: map[int]chan syscall.WaitStatus{}}
}

// run reaps until ctx ends.
func (r *reaper) run(ctx context.Context, children <-chan os.Signal) {
	for {
		r.reap()
		select {
		case <-children:
		case <-ctx.Done():
			return
		}
	}
}

func notifyChildren() chan os.Signal {
	ch := make(chan os.Signal, 1)
	signal.Notify(ch, unix.SIGCHLD)
	return ch
}

func (r *reaper) reap() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.starting > 0 {
		for pid := range r.waiters {
			r.wait(pid)
		}
		return
	}
	for r.wait(-1) {
	}
}

// wait collects one exit, of pid or of any child (-1), if there is one. The lock is held.
func (r *reaper) wait(pid int) bool {
	var ws syscall.WaitStatus
	got, err := syscall.Wait4(pid, &ws, syscall.WNOHANG, nil)
	if err == syscall.EINTR {
		return true
	}
	if err != nil || got <= 0 {
		return false
	}
	if ch, ok := r.waiters[got]; ok {
		delete(r.waiters, got)
		ch <- ws
	}
	return true
}

// begin leaves unknown children unreaped until the matching end, so that a container that dies before its start
// has been noticed can still be told by its process id, and adopted.
func (r *reaper) begin() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.starting++
}

func (r *reaper) end() {
	r.mu.Lock()
	r.starting--
	r.mu.Unlock()
	r.reap()
}

// start forks a child whose exit comes on the channel. The lock keeps it from being reaped before it is known.
func (r *reaper) start(path string, argv []string, attr *syscall.ProcAttr) (int, <-chan syscall.WaitStatus, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	pid, err := syscall.ForkExec(path, argv, attr)
	if err != nil {
		return 0, nil, fmt.Errorf("start %s: %w", path, err)
	}
	ch := make(chan syscall.WaitStatus, 1)
	r.waiters[pid] = ch
	return pid, ch, nil
}

// adopt returns the channel on which the exit of a process comes that has fallen to the shim. To be called
// between begin and end.
func (r *reaper) adopt(pid int) <-chan syscall.WaitStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	ch := make(chan syscall.WaitStatus, 1)
	r.waiters[pid] = ch
	r.wait(pid)
	return ch
}

// kill signals a child that has not been reaped; under the lock its number cannot have been used again.
func (r *reaper) kill(pid int, sig syscall.Signal) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.waiters[pid]; !ok {
		return unix.ESRCH
	}
	return syscall.Kill(pid, sig)
}

// exitOf translates a wait status the way a shell does: a signal is 128 and its number.
func exitOf(ws syscall.WaitStatus) (code, sig int) {
	if ws.Signaled() {
		return 128 + int(ws.Signal()), int(ws.Signal())
	}
	return ws.ExitStatus(), 0
}
