package shim

import (
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// attach joins a client to a running container's streams and serves it until the container exits or the client
// hangs up.
func (s *Server) attach(conn *Conn, req Request, fds []int) {
	c, err := s.container(req.ID)
	if err != nil || req.Attach == nil {
		CloseFDs(fds)
		conn.Send(failure(err))
		return
	}
	<-c.started
	if err := c.join(conn, *req.Attach, fds); err != nil {
		conn.Send(failure(err))
		return
	}
	defer c.leave(conn)
	if conn.Send(Reply{PID: c.Status().PID}) != nil {
		return
	}
	for {
		var next Request
		fds, err := conn.Recv(&next)
		if err != nil {
			return
		}
		CloseFDs(fds)
		if next.Op == OpResize {
			c.resize(next.Width, next.Height)
		}
	}
}

// join hands the client's descriptors, which it takes over, to the streams asked for.
func (c *container) join(conn *Conn, spec AttachSpec, fds []int) error {
	take := func(want bool) *os.File {
		if !want || len(fds) == 0 {
			return nil
		}
		fd := fds[0]
		fds = fds[1:]
		_ = unix.SetNonblock(fd, true) // a descriptor of ours: it cannot fail
		return os.NewFile(uintptr(fd), "attached")
	}
	defer func() { CloseFDs(fds) }()
	in, out, errs := take(spec.Stdin), take(spec.Stdout), take(spec.Stderr)

	c.mu.Lock()
	defer c.mu.Unlock()
	if c.status.State != Running {
		for _, f := range []*os.File{in, out, errs} {
			if f != nil {
				f.Close()
			}
		}
		return errNotRunning
	}
	c.clients[conn] = in
	for i, f := range []*os.File{out, errs} {
		if f == nil {
			continue
		}
		if i < len(c.outputs) {
			c.outputs[i].attach(f)
		} else {
			f.Close() // a terminal has no standard error of its own
		}
	}
	if in != nil {
		go c.feed(in)
	}
	return nil
}

// feed copies a client's input to the container until either ends.
func (c *container) feed(in *os.File) {
	c.mu.Lock()
	stdin := c.stdin
	c.mu.Unlock()
	if stdin == nil {
		io.Copy(io.Discard, in)
		return
	}
	buf := make([]byte, 4<<10)
	for {
		n, err := in.Read(buf)
		if n > 0 {
			if _, werr := stdin.Write(buf[:n]); werr != nil {
				return
			}
		}
		if err != nil {
			break
		}
	}
	if !c.spec.StdinOnce || c.spec.TTY {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stdin != nil {
		c.stdin.Close()
		c.stdin = nil
	}
}

func (c *container) leave(conn *Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if in := c.clients[conn]; in != nil {
		in.Close()
	}
	delete(c.clients, conn)
}

// resize sets the terminal's size, where there is one. A size that cannot be set changes nothing.
func (c *container) resize(width, height uint16) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.terminal == nil || c.status.State != Running {
		return
	}
	raw, err := c.terminal.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) { // a terminal that is gone needs no size
		_ = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: height, Col: width})
	})
}
