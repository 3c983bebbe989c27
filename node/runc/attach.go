package runc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/orlog-io/orlog/node/shim"
)

// AttachOptions are the streams of a container to join; nil ones are not.
type AttachOptions struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Resize         <-chan Size
}

// Attach joins a running container's streams from now on and returns when the container has exited, when ctx
// ends, or when all of its outputs have; an input that ends does not end it.
func (r *Runtime) Attach(ctx context.Context, sandboxID, containerID string, o AttachOptions) error {
	if _, err := r.containerDir(sandboxID, containerID); err != nil {
		return err
	}
	conn, done, err := r.dial(ctx, sandboxID)
	if err != nil {
		return err
	}
	defer done()
	spec := shim.AttachSpec{Stdin: o.Stdin != nil, Stdout: o.Stdout != nil, Stderr: o.Stderr != nil}
	var near, far []*os.File
	defer func() {
		closeAll(near)
		closeAll(far)
	}()
	for _, wanted := range []bool{spec.Stdin, spec.Stdout, spec.Stderr} {
		if !wanted {
			near = append(near, nil)
			continue
		}
		a, b, err := socketPair()
		if err != nil {
			return fmt.Errorf("attach to %s: %w", containerID, err)
		}
		near, far = append(near, a), append(far, b)
	}
	var fds []int
	for _, f := range far {
		fds = append(fds, int(f.Fd()))
	}
	req := shim.Request{Op: shim.OpAttach, ID: containerID, Attach: &spec}
	if err := conn.Send(req, fds...); err != nil {
		return callError(ctx, sandboxID, req.Op, err)
	}
	closeAll(far)
	var reply shim.Reply
	if _, err := conn.Recv(&reply); err != nil {
		return callError(ctx, sandboxID, req.Op, err)
	}
	if err := replyError(sandboxID, req, reply); err != nil {
		return err
	}
	return attached(ctx, conn, near, o)
}

// attached copies until the shim closes the connection.
func attached(ctx context.Context, conn *shim.Conn, near []*os.File, o AttachOptions) error {
	if o.Stdin != nil {
		go func() {
			io.Copy(near[0], o.Stdin)
			near[0].Close() // the end of input, for a container that wants it
		}()
	}
	var outputs sync.WaitGroup
	for i, w := range []io.Writer{o.Stdout, o.Stderr} {
		if w == nil {
			continue
		}
		outputs.Go(func() {
			io.Copy(w, near[i+1])
			near[i+1].Close() // a reader that has left; the shim drops it
		})
	}
	if o.Resize != nil {
		go func() {
			for size := range o.Resize {
				if conn.Send(shim.Request{Op: shim.OpResize, Width: size.Width, Height: size.Height}) != nil {
					return
				}
			}
		}()
	}
	var reply shim.Reply
	_, err := conn.Recv(&reply)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	outputs.Wait()
	return nil
}

func socketPair() (*os.File, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	return os.NewFile(uintptr(fds[0]), "attach"), os.NewFile(uintptr(fds[1]), "attach"), nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		if f != nil {
			f.Close()
		}
	}
}
