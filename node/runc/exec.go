package runc

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/orlog-io/orlog/node/shim"
)

// Size is that of a terminal.
type Size struct{ Width, Height uint16 }

// ExecOptions is one more process to run in a container.
type ExecOptions struct {
	Args           []string
	Env            []string // beside the container's
	Cwd            string   // empty: the container's
	TTY            bool     // a terminal; Stderr is not used then
	Stdin          io.Reader
	Stdout, Stderr io.Writer   // nil: dropped
	Resize         <-chan Size // the terminal's sizes, until closed
}

// The exit codes of a command that cannot be run, as a shell has them.
const (
	exitNotExecutable = 126
	exitNotFound      = 127
)

// Exec runs a process in a running container and returns its exit code when it has ended and its output is
// copied. A command that does not exist is no error but exit code 127 (126: it cannot be executed), with runc's
// words on Stderr. When ctx ends the process is killed and its error returned.
func (r *Runtime) Exec(ctx context.Context, sandboxID, containerID string, o ExecOptions) (int, error) {
	if len(o.Args) == 0 {
		return 0, fmt.Errorf("exec in %s: no command given", containerID)
	}
	dir, err := r.containerDir(sandboxID, containerID)
	if err != nil {
		return 0, err
	}
	process, err := r.writeProcess(dir, o)
	if err != nil {
		return 0, fmt.Errorf("exec in %s: %w", containerID, err)
	}
	defer os.Remove(filepath.Join(dir, process))
	streams, err := openExecStreams(dir, process, o)
	if err != nil {
		return 0, fmt.Errorf("exec in %s: %w", containerID, err)
	}
	defer streams.close()

	conn, done, err := r.dial(ctx, sandboxID)
	if err != nil {
		return 0, err
	}
	defer done()
	req := shim.Request{Op: shim.OpExec, ID: containerID, Exec: &shim.ExecSpec{
		Runc: r.runc(sandboxID), Dir: dir, Process: process, Console: streams.console,
	}}
	if err := conn.Send(req, streams.remote()...); err != nil {
		return 0, callError(ctx, sandboxID, req.Op, err)
	}
	streams.closeRemote()
	var reply shim.Reply
	if _, err := conn.Recv(&reply); err != nil {
		return 0, callError(ctx, sandboxID, req.Op, err)
	}
	if err := replyError(sandboxID, req, reply); err != nil {
		return commandError(err, reply, o)
	}
	if err := streams.start(o); err != nil {
		return 0, fmt.Errorf("exec in %s: %w", containerID, err)
	}
	reply = shim.Reply{}
	if _, err := conn.Recv(&reply); err != nil {
		return 0, callError(ctx, sandboxID, req.Op, err)
	}
	streams.drain(ctx)
	return reply.ExitCode, nil
}

// commandError tells a command that cannot be run from a failure of the runtime.
func commandError(err error, reply shim.Reply, o ExecOptions) (int, error) {
	if !errors.Is(err, ErrRunc) {
		return 0, err
	}
	var code int
	switch msg := reply.Error; {
	case strings.Contains(msg, "executable file not found"), strings.Contains(msg, "no such file or directory"):
		code = exitNotFound
	case strings.Contains(msg, "permission denied"), strings.Contains(msg, "exec format error"), strings.Contains(msg, "is a directory"):
		code = exitNotExecutable
	default:
		return 0, err
	}
	w := o.Stderr
	if o.TTY || w == nil {
		w = o.Stdout
	}
	if w != nil {
		fmt.Fprintf(w, "%s\n", reply.Error)
	}
	return code, nil
}

// ExecSync runs a command to its end and returns what it wrote to both outputs, at most limit bytes of it. After
// timeout, where not 0, it is killed and the error is context.DeadlineExceeded.
func (r *Runtime) ExecSync(ctx context.Context, sandboxID, containerID string, args []string, timeout time.Duration, limit int) ([]byte, int, error) {
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	out := &limited{left: limit}
	code, err := r.Exec(ctx, sandboxID, containerID, ExecOptions{Args: args, Stdout: out, Stderr: out})
	return out.bytes(), code, err
}

// containerDir is the folder of a container that exists.
func (r *Runtime) containerDir(sandboxID, containerID string) (string, error) {
	if !idPattern.MatchString(sandboxID) || !idPattern.MatchString(containerID) {
		return "", fmt.Errorf("sandbox %q: container %q: %w", sandboxID, containerID, ErrNotFound)
	}
	dir := shim.ContainerDir(r.podDir(sandboxID), containerID)
	if _, err := os.Stat(filepath.Join(dir, containerFile)); err != nil {
		return "", fmt.Errorf("sandbox %s: container %s: %w", sandboxID, containerID, ErrNotFound)
	}
	return dir, nil
}

var execs atomic.Uint64

// writeProcess writes the process to run, which is the container's own with another command, beside its spec.
func (r *Runtime) writeProcess(dir string, o ExecOptions) (name string, err error) {
	data, err := os.ReadFile(filepath.Join(dir, specFile))
	if err != nil {
		return "", err
	}
	var spec specs.Spec
	if err := json.Unmarshal(data, &spec); err != nil {
		return "", fmt.Errorf("%s: %w", specFile, err)
	}
	p := spec.Process
	p.Args, p.Terminal, p.ConsoleSize = o.Args, o.TTY, nil
	p.Env = environment(append(p.Env, o.Env...), o.TTY)
	if o.Cwd != "" {
		p.Cwd = o.Cwd
	}
	// Short, for its console socket's sake; the process id keeps two agents' apart.
	name = fmt.Sprintf("x%d-%d", os.Getpid(), execs.Add(1))
	return name, writeJSON(filepath.Join(dir, name), p)
}

// limited keeps the first bytes written to it and drops the rest.
type limited struct {
	mu   sync.Mutex
	buf  bytes.Buffer
	left int
}

func (l *limited) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := min(len(p), l.left)
	l.buf.Write(p[:n])
	l.left -= n
	return len(p), nil
}

func (l *limited) bytes() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Clone(l.buf.Bytes())
}
