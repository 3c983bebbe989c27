//go:build system

package systemtest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// process is one of ours, started in a session of its own, its output in a file.
type process struct {
	name string
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended and was waited for
}

func (c *cluster) spawn(name string, args ...string) (*process, error) {
	out, err := os.OpenFile(filepath.Join(c.dir, name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	// nsenter executes the program in its own place, so the process's pid is the program's.
	cmd := exec.Command("nsenter", append([]string{"--net=/run/netns/" + c.id, filepath.Join(c.bin, name)}, args...)...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	p := &process{name: name, cmd: cmd, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		// How it ended is in its log; here only that it ended matters.
		_ = cmd.Wait()
	}()
	return p, nil
}

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// stop signals the process and waits for its end, at most 20 s; then it kills it and says so.
func (p *process) stop(sig syscall.Signal) error {
	if p.ended() {
		return nil
	}
	if err := p.cmd.Process.Signal(sig); err != nil {
		return fmt.Errorf("signal %s: %w", p.name, err)
	}
	select {
	case <-p.done:
		return nil
	case <-time.After(20 * time.Second):
	}
	if err := p.cmd.Process.Kill(); err != nil {
		return fmt.Errorf("kill %s: %w", p.name, err)
	}
	<-p.done
	return fmt.Errorf("%s did not end within 20 s of %v and was killed", p.name, sig)
}

// kill ends one of the cluster's processes as a crash would; await no longer minds that it is gone.
func (c *cluster) kill(p **process) error {
	dead := *p
	*p = nil
	return dead.stop(syscall.SIGKILL)
}
