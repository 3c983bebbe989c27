package shim

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// Conn is one connection between an agent and a shim. A message is one JSON document and the file descriptors
// that travel with it; the kernel keeps message boundaries (SOCK_SEQPACKET). One goroutine may send while
// another receives.
type Conn struct {
	f   *os.File
	raw syscall.RawConn
}

// maxFDs is more than any request carries.
const maxFDs = 4

func newConn(fd int, name string) (*Conn, error) {
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("%s: set non-blocking: %w", name, err)
	}
	f := os.NewFile(uintptr(fd), name)
	raw, err := f.SyscallConn()
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return &Conn{f: f, raw: raw}, nil
}

// Close ends the connection; a Recv under way returns an error.
func (c *Conn) Close() error { return c.f.Close() }

// Send writes one message. The file descriptors stay the caller's.
func (c *Conn) Send(v any, fds ...int) error {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode message: %w", err)
	}
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	var serr error
	err = c.raw.Write(func(fd uintptr) bool {
		serr = unix.Sendmsg(int(fd), data, rights, nil, unix.MSG_NOSIGNAL)
		return serr != unix.EAGAIN && serr != unix.EINTR
	})
	if err == nil {
		err = serr
	}
	if err != nil {
		return fmt.Errorf("send to %s: %w", c.f.Name(), err)
	}
	return nil
}

// Recv reads one message into v and returns its file descriptors, now the caller's. The error is io.EOF where
// the other side has closed.
func (c *Conn) Recv(v any) ([]int, error) {
	var data []byte
	var fds []int
	var rerr error
	err := c.raw.Read(func(fd uintptr) bool {
		data, fds, rerr = recvmsg(int(fd))
		return !errors.Is(rerr, unix.EAGAIN) && !errors.Is(rerr, unix.EINTR)
	})
	if err == nil {
		err = rerr
	}
	if err != nil {
		if errors.Is(err, unix.ECONNRESET) {
			err = io.EOF
		}
		return nil, err
	}
	if err := json.Unmarshal(data, v); err != nil {
		CloseFDs(fds)
		return nil, fmt.Errorf("decode message from %s: %w", c.f.Name(), err)
	}
	return fds, nil
}

func recvmsg(fd int) ([]byte, []int, error) {
	// The size first: messages are small, but a pod of many containers has a long status.
	n, _, _, _, err := unix.Recvmsg(fd, nil, nil, unix.MSG_PEEK|unix.MSG_TRUNC)
	if err != nil {
		return nil, nil, err
	}
	if n == 0 {
		return nil, nil, io.EOF
	}
	data := make([]byte, n)
	oob := make([]byte, unix.CmsgSpace(maxFDs*4))
	n, oobn, _, _, err := unix.Recvmsg(fd, data, oob, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return nil, nil, err
	}
	fds, err := parseRights(oob[:oobn])
	return data[:n], fds, err
}

func parseRights(oob []byte) ([]int, error) {
	if len(oob) == 0 {
		return nil, nil
	}
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, fmt.Errorf("parse control message: %w", err)
	}
	var fds []int
	for i := range msgs {
		got, err := unix.ParseUnixRights(&msgs[i])
		if err != nil {
			continue // credentials or the like: not ours
		}
		fds = append(fds, got...)
	}
	return fds, nil
}

// CloseFDs closes file descriptors that came with a message.
func CloseFDs(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}

// Dial connects to the shim of the pod in dir. The error is the kernel's: ENOENT or ECONNREFUSED say that there
// is no shim.
func Dial(dir string) (*Conn, error) {
	fd, err := socketIn(dir, unix.SOCK_SEQPACKET, unix.Connect, SocketFile)
	if err != nil {
		return nil, fmt.Errorf("connect to the shim in %s: %w", dir, err)
	}
	return newConn(fd, "shim")
}

// Listen makes the listening socket of the pod in dir, for the shim to inherit. An old one is removed.
func Listen(dir string) (*os.File, error) {
	fd, err := listenIn(dir, SocketFile, unix.SOCK_SEQPACKET)
	if err != nil {
		return nil, fmt.Errorf("listen for the shim in %s: %w", dir, err)
	}
	return os.NewFile(uintptr(fd), SocketFile), nil
}

func listenIn(dir, name string, kind int) (int, error) {
	return socketIn(dir, kind, func(fd int, addr unix.Sockaddr) error {
		if err := os.Remove(dir + "/" + name); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		if err := unix.Bind(fd, addr); err != nil {
			return err
		}
		return unix.Listen(fd, 128)
	}, name)
}

// socketIn makes a unix socket and binds or connects it to dir/name, however long dir is: the address goes
// through a descriptor of the folder, because sun_path holds 108 bytes only.
func socketIn(dir string, kind int, use func(int, unix.Sockaddr) error, name string) (int, error) {
	dirfd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	defer unix.Close(dirfd)
	fd, err := unix.Socket(unix.AF_UNIX, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	addr := &unix.SockaddrUnix{Name: "/proc/self/fd/" + strconv.Itoa(dirfd) + "/" + name}
	if err := use(fd, addr); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// accept waits for the next connection on a non-blocking listening socket.
func accept(l syscall.RawConn) (int, error) {
	var fd int
	var aerr error
	err := l.Read(func(s uintptr) bool {
		fd, _, aerr = unix.Accept4(int(s), unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
		return aerr != unix.EAGAIN && aerr != unix.EINTR && aerr != unix.ECONNABORTED
	})
	if err == nil {
		err = aerr
	}
	return fd, err
}

// ListenStream makes a listening stream socket called name in dir, for runc to hand a terminal over.
func ListenStream(dir, name string) (*os.File, error) {
	fd, err := listenIn(dir, name, unix.SOCK_STREAM)
	if err != nil {
		return nil, fmt.Errorf("listen at %s/%s: %w", dir, name, err)
	}
	return os.NewFile(uintptr(fd), name), nil
}
