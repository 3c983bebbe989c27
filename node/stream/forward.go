package stream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// dialTimeout bounds a connection to a port that drops packets.
const dialTimeout = 10 * time.Second

// forwarder connects to ports of one pod.
type forwarder struct{ netns string }

// PortForward is portforward.PortForwarder: it moves bytes between a client's stream and a port on the pod's
// loopback, until the pod's side closes or the client is gone.
func (f forwarder) PortForward(ctx context.Context, pod, _ string, port int32, stream io.ReadWriteCloser) error {
	defer stream.Close()
	conn, err := dialIn(ctx, f.netns, port)
	if err != nil {
		return fmt.Errorf("connect to port %d in pod %q: %w", port, pod, err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	go func() {
		// Ends with the stream, which is closed below, or with the connection.
		io.Copy(conn, stream)
		conn.CloseWrite()
	}()
	if _, err := io.Copy(stream, conn); err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("port %d in pod %q: %w", port, pod, err)
	}
	return nil
}

// dialIn connects to a port on the loopback of a network namespace, IPv4 first.
func dialIn(ctx context.Context, netns string, port int32) (*net.TCPConn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	var conn net.Conn
	err := inNetNS(netns, func() error {
		var d net.Dialer
		var err, err6 error
		if conn, err = d.DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(int(port)))); err == nil {
			return nil
		}
		if conn, err6 = d.DialContext(ctx, "tcp", net.JoinHostPort("::1", strconv.Itoa(int(port)))); err6 == nil {
			return nil
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return conn.(*net.TCPConn), nil
}

// inNetNS calls f on a thread in a network namespace (empty: wherever the process is). Sockets made there belong
// to the namespace for good, so nothing else need be done in it.
func inNetNS(netns string, f func() error) error {
	if netns == "" {
		return f()
	}
	done := make(chan error, 1)
	go func() {
		// Never unlocked: a thread that has been elsewhere ends with its goroutine. The process's first thread
		// cannot end, and what it is in, /proc/self shows as the process's: it stays out of this.
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			defer runtime.UnlockOSThread()
			done <- inNetNS(netns, f)
			return
		}
		err := enter(netns)
		if err == nil {
			err = f()
		}
		done <- err
	}()
	return <-done
}

func enter(netns string) error {
	f, err := os.Open(netns)
	if err != nil {
		return fmt.Errorf("the pod's network namespace: %w", err)
	}
	defer f.Close()
	if err := unix.Setns(int(f.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter the pod's network namespace %s: %w", netns, err)
	}
	return nil
}
