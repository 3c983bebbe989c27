package stream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"k8s.io/cri-streaming/pkg/streaming/remotecommand"

	"github.com/orlog-io/orlog/node/runc"
)

// session runs what cri-streaming has unpacked from one request.
type session struct {
	runtime Runtime
	target  target
}

// exitError is a command's own exit code, in the form that cri-streaming looks for.
type exitError int

func (e exitError) Error() string   { return "command terminated with exit code " + strconv.Itoa(int(e)) }
func (e exitError) String() string  { return e.Error() }
func (e exitError) Exited() bool    { return true }
func (e exitError) ExitStatus() int { return int(e) }

// ExecInContainer is remotecommand.Executor.
func (s session) ExecInContainer(ctx context.Context, _, _, _ string, cmd []string, in io.Reader, out, errw io.WriteCloser,
	tty bool, sizes <-chan remotecommand.TerminalSize, _ time.Duration) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	code, err := s.runtime.Exec(ctx, s.target.sandbox, s.target.container, runc.ExecOptions{
		Args: cmd, TTY: tty, Stdin: in, Stdout: writer(out), Stderr: writer(errw), Resize: resizes(ctx, sizes),
	})
	if err != nil {
		return explain(err)
	}
	if code != 0 {
		return exitError(code)
	}
	return nil
}

// AttachContainer is remotecommand.Attacher.
func (s session) AttachContainer(ctx context.Context, _, _, _ string, in io.Reader, out, errw io.WriteCloser,
	tty bool, sizes <-chan remotecommand.TerminalSize) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	return explain(s.runtime.Attach(ctx, s.target.sandbox, s.target.container, runc.AttachOptions{
		Stdin: in, Stdout: writer(out), Stderr: writer(errw), Resize: resizes(ctx, sizes),
	}))
}

// explain says in a user's words what went wrong.
func explain(err error) error {
	switch {
	case errors.Is(err, runc.ErrNotFound):
		return fmt.Errorf("container not found: %w", err)
	case errors.Is(err, runc.ErrShimGone):
		return fmt.Errorf("the pod is being restarted: %w", err)
	}
	return err
}

// writer keeps a nil stream nil: an interface that holds a nil pointer is not.
func writer(w io.WriteCloser) io.Writer {
	if w == nil {
		return nil
	}
	return w
}

// resizes translates terminal sizes until either side ends.
func resizes(ctx context.Context, sizes <-chan remotecommand.TerminalSize) <-chan runc.Size {
	if sizes == nil {
		return nil
	}
	out := make(chan runc.Size)
	go func() {
		defer close(out)
		for {
			select {
			case size, ok := <-sizes:
				if !ok {
					return
				}
				select {
				case out <- runc.Size{Width: size.Width, Height: size.Height}:
				case <-ctx.Done():
					return
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	return out
}
