package runc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"golang.org/x/sys/unix"

	"github.com/orlog-io/orlog/node/shim"
)

// dial connects to a pod's shim. The error wraps ErrShimGone where there is none.
func (r *Runtime) dial(ctx context.Context, id string) (*shim.Conn, func(), error) {
	conn, err := shim.Dial(r.podDir(id))
	if err != nil {
		if gone(err) {
			err = fmt.Errorf("sandbox %s: %w", id, ErrShimGone)
		}
		return nil, nil, err
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	return conn, func() {
		stop()
		conn.Close()
	}, nil
}

// call asks the shim one thing. The errors are those of this package.
func (r *Runtime) call(ctx context.Context, id string, req shim.Request) (shim.Reply, error) {
	conn, done, err := r.dial(ctx, id)
	if err != nil {
		return shim.Reply{}, err
	}
	defer done()
	if err := conn.Send(req); err != nil {
		return shim.Reply{}, callError(ctx, id, req.Op, err)
	}
	var reply shim.Reply
	if _, err := conn.Recv(&reply); err != nil {
		return shim.Reply{}, callError(ctx, id, req.Op, err)
	}
	return reply, replyError(id, req, reply)
}

// gone says whether the error of a connection means that no shim is at its other end.
func gone(err error) bool {
	return errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, io.EOF) ||
		errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET)
}

// callError explains a connection that broke during a call.
func callError(ctx context.Context, id string, op shim.Op, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("sandbox %s: %s: %w", id, op, context.Cause(ctx))
	}
	if gone(err) {
		return fmt.Errorf("sandbox %s: %s: %w", id, op, ErrShimGone)
	}
	return fmt.Errorf("sandbox %s: %s: %w", id, op, err)
}

// replyError turns what a shim refused into this package's errors.
func replyError(id string, req shim.Request, reply shim.Reply) error {
	if reply.Error == "" {
		return nil
	}
	kind := map[shim.Code]error{
		shim.CodeNotFound: ErrNotFound, shim.CodeNotRunning: ErrNotRunning, shim.CodeRunc: ErrRunc,
	}[reply.Code]
	if kind == nil {
		return fmt.Errorf("sandbox %s: %s: %s", id, req.Op, reply.Error)
	}
	return fmt.Errorf("sandbox %s: %s %s: %w: %s", id, req.Op, req.ID, kind, reply.Error)
}
