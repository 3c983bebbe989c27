//go:build system

package systemtest

import (
	"context"
	"io"
	"net"
	"sync"
	"testing"
)

// forward lets this process's own clients reach an address of the cluster's network namespace: what comes in on the
// loopback address that it returns goes on there, until the test ends.
func forward(t *testing.T, to string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(func() {
		cancel()
		l.Close()
		all.Wait()
	})
	all.Go(func() {
		for {
			from, err := l.Accept()
			if err != nil {
				return // closed
			}
			all.Go(func() { join(ctx, from, to) })
		}
	})
	return l.Addr().String()
}

// join carries bytes both ways until either side or ctx ends.
func join(ctx context.Context, from net.Conn, to string) {
	defer from.Close()
	inside, err := dialInside(ctx, "tcp", to)
	if err != nil {
		return // the client sees its connection end
	}
	defer inside.Close()
	stop := context.AfterFunc(ctx, func() {
		from.Close()
		inside.Close()
	})
	defer stop()
	var both sync.WaitGroup
	for _, pair := range [][2]net.Conn{{from, inside}, {inside, from}} {
		both.Go(func() {
			_, _ = io.Copy(pair[0], pair[1]) // how a side ended does not matter: the other one is ended too
			pair[0].Close()
			pair[1].Close()
		})
	}
	both.Wait()
}
