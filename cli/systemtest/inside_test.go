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
func dialInside(ctx context.Context, network, address string) (net.Conn, error) {
	type result struct {
		conn net.Conn
		err  error
	}
	done := make(chan result, 1)
	go func() {
		// The thread is not unlocked: it ends with the goroutine, so no other goroutine ever runs in the namespace.
		runtime.LockOSThread()
		ns, err := netns.GetFromName(the.id)
		if err != nil {
			done <- result{nil, fmt.Errorf("network namespace %s: %w", the.id, err)}
			return
		}
		defer ns.Close()
		if err := netns.Set(ns); err != nil {
			done <- result{nil, fmt.Errorf("network namespace %s: %w", the.id, err)}
			return
		}
		var d net.Dialer
		conn, err := d.DialContext(ctx, network, address)
		done <- result{conn, err}
	}()
	r := <-done
	return r.conn, r.err
}
