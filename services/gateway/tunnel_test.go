package gateway

import (
	"context"
	"fmt"
	"net"
	"sync"

	"github.com/orlog-io/orlog/events"
)

// localTunnel reaches nodes of the same process over loopback TCP.
type localTunnel struct {
	mu    sync.Mutex
	nodes map[string]string
}

func newLocalTunnel() *localTunnel { return &localTunnel{nodes: map[string]string{}} }

func (l *localTunnel) Dial(ctx context.Context, node string) (net.Conn, error) {
	l.mu.Lock()
	addr, known := l.nodes[node]
	l.mu.Unlock()
	if !known {
		return nil, fmt.Errorf("node %s does not listen: %w", node, events.ErrUnavailable)
	}
	return (&net.Dialer{}).DialContext(ctx, "tcp", addr)
}

func (l *localTunnel) Listen(node string) (net.Listener, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.nodes[node] = listener.Addr().String()
	return listener, nil
}
