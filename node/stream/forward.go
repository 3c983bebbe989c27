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

// dialIn connects to a port on the loopback of a network namespace, IPv4 first. A socket stays in the namespace
// in which it was made, so only the dialling needs a thread in there.
func dialIn(ctx context.Context, netns string, port int32) (*net.TCPConn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	type result struct {
		conn net.Conn
		err  error
	}
	done := make(chan result, 1)
	go func() {
		if netns != "" {
			// Never unlocked: a thread that has been elsewhere ends with its goroutine.
			runtime.LockOSThread()
			if err := enter(netns); err != nil {
				done <- result{err: err}
				return
			}
		}
		var d net.Dialer
		conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(int(port))))
		if err != nil {
			var err6 error
			if conn, err6 = d.DialContext(ctx, "tcp", net.JoinHostPort("::1", strconv.Itoa(int(port)))); err6 == nil {
				err = nil
			}
		}
		done <- result{conn, err}
	}()
	r := <-done
	if r.err != nil {
		return nil, r.err
	}
	return r.conn.(*net.TCPConn), nil
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
