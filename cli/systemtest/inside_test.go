//go:build system

package systemtest

import (
	"context"
	"fmt"
	"net"
	"runtime"

	"github.com/vishvananda/netns"
)

// dialInside connects to an address of the cluster's network namespace from this process: a socket stays in the
// namespace that it was made in.
func dialInside(ctx context.Context, network, address string) (conn net.Conn, err error) {
	err = inNamespace(the.id, func() (err error) {
		var d net.Dialer
		conn, err = d.DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// listenInside listens on an address of a network namespace.
func listenInside(id, address string) (l net.Listener, err error) {
	err = inNamespace(id, func() (err error) {
		l, err = net.Listen("tcp", address)
		return err
	})
	return l, err
}

// inNamespace calls f on a thread that is in a network namespace.
func inNamespace(id string, f func() error) error {
	done := make(chan error)
	go func() {
		// The thread is not unlocked: it ends with the goroutine, so no other goroutine ever runs in the namespace.
		runtime.LockOSThread()
		ns, err := netns.GetFromName(id)
		if err != nil {
			done <- fmt.Errorf("network namespace %s: %w", id, err)
			return
		}
		defer ns.Close()
		if err := netns.Set(ns); err != nil {
			done <- fmt.Errorf("network namespace %s: %w", id, err)
			return
		}
		done <- f()
	}()
	return <-done
}
