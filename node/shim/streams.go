package shim

import (
	"os"

	"golang.org/x/sys/unix"
)

// stdio is the container's side of its streams while runc starts it.
type stdio struct {
	child   [3]int // what runc gets as 0, 1, 2
	console int    // listening console socket, -1 without a terminal
	closing []int
}

func (s *stdio) own(fd int) int {
	s.closing = append(s.closing, fd)
	return fd
}

func (s *stdio) close() {
	for _, fd := range s.closing {
		unix.Close(fd)
	}
	s.closing = nil
}

// openStreams makes the pipes of a container, or the console socket of one with a terminal. The shim's ends go
// into c; the container's are the caller's to close once runc has them.
func (c *container) openStreams() (*stdio, error) {
	s := &stdio{console: -1}
	null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return s, err
	}
	s.own(null)
	s.child = [3]int{null, null, null}
	if c.spec.TTY {
		l, err := listenIn(c.spec.Dir, ttySocket, unix.SOCK_STREAM)
		if err != nil {
			return s, err
		}
		s.console = s.own(l)
		return s, nil
	}
	if c.spec.Stdin {
		r, w, err := pipe()
		if err != nil {
			return s, err
		}
		s.child[0] = s.own(r)
		if err := unix.SetNonblock(w, true); err != nil {
			unix.Close(w)
			return s, err
		}
		c.stdin = os.NewFile(uintptr(w), "stdin")
	}
	for i, name := range []string{"stdout", "stderr"} {
		r, w, err := pipe()
		if err != nil {
			return s, err
		}
		s.child[i+1] = s.own(w)
		o, err := newOutput(r, name, c.log)
		if err != nil {
			return s, err
		}
		c.outputs = append(c.outputs, o)
	}
	return s, nil
}

// openTerminal takes the master end that runc has sent. It is one stream, called stdout in the log.
func (c *container) openTerminal(listener int) error {
	fd, err := ReceiveConsole(listener)
	if err != nil {
		return err
	}
	o, err := newOutput(fd, "stdout", c.log)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.outputs = []*output{o}
	c.terminal = o.f
	if c.spec.Stdin {
		c.stdin = o.f
	}
	return nil
}

func pipe() (r, w int, err error) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		return -1, -1, err
	}
	return p[0], p[1], nil
}
