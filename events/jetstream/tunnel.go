package jetstream

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"

	"github.com/nats-io/nats.go"

	"github.com/orlog-io/orlog/events"
)

// TunnelRoot is the first token of the tunnels' subjects:
//
//	orlog-tunnel.<node>.dial      requests for a new stream; payload: its ID
//	orlog-tunnel.<node>.<id>.n    frames to the node
//	orlog-tunnel.<node>.<id>.c    frames to the control plane
const TunnelRoot = "orlog-tunnel"

// backlog is how many dialled streams may wait for Accept.
const backlog = 128

type tunnel struct{ conn *Conn }

// Tunnel gives streams to nodes over this connection.
func (c *Conn) Tunnel() events.Tunnel { return tunnel{c} }

func streamSubject(node, id, side string) string {
	return strings.Join([]string{TunnelRoot, events.NodeToken(node), id, side}, ".")
}

func dialSubject(node string) string { return TunnelRoot + "." + events.NodeToken(node) + ".dial" }

// Dial implements events.Tunnel.
func (t tunnel) Dial(ctx context.Context, node string) (net.Conn, error) {
	id := rand.Text()
	s, err := newTunnelConn(t.conn, node, streamSubject(node, id, "c"), streamSubject(node, id, "n"))
	if err != nil {
		return nil, fmt.Errorf("tunnel to node %s: %w", node, err)
	}
	answer, err := t.conn.request(ctx, &nats.Msg{Subject: dialSubject(node), Data: []byte(id)})
	if err == nil && len(answer.Data) > 0 {
		err = errors.New(string(answer.Data))
	}
	if err != nil {
		s.abandon(err)
		if errors.Is(err, nats.ErrNoResponders) {
			return nil, fmt.Errorf("tunnel to node %s: %w: the node's agent is not connected", node, events.ErrUnavailable)
		}
		if errors.Is(err, ErrForbidden) {
			return nil, fmt.Errorf("tunnel to node %s: %w", node, err)
		}
		return nil, fmt.Errorf("tunnel to node %s: %w: %w", node, events.ErrUnavailable, err)
	}
	return s, nil
}

// listener accepts the streams dialled to one node.
type listener struct {
	conn    *Conn
	node    string
	sub     *nats.Subscription
	arrived chan *tunnelConn
	closing chan struct{}
	once    sync.Once
}

// Listen implements events.Tunnel.
func (t tunnel) Listen(node string) (net.Listener, error) {
	l := &listener{conn: t.conn, node: node, arrived: make(chan *tunnelConn, backlog), closing: make(chan struct{})}
	t.conn.mu.Lock()
	defer t.conn.mu.Unlock()
	if t.conn.listeners[node] != nil {
		return nil, fmt.Errorf("tunnel: this connection listens for node %s already", node)
	}
	sub, err := t.conn.nc.Subscribe(dialSubject(node), l.dialled)
	if err != nil {
		return nil, fmt.Errorf("tunnel: listening for node %s: %w", node, classify(err))
	}
	l.sub = sub
	t.conn.listeners[node] = l
	if err := t.conn.nc.FlushTimeout(attemptTimeout); err != nil {
		t.conn.report(fmt.Errorf("tunnel: listening for node %s: %w: dials will arrive when the connection is back", node, err))
	} else if err := t.conn.nc.LastError(); errors.Is(err, nats.ErrPermissionViolation) && strings.Contains(err.Error(), strconv.Quote(sub.Subject)) {
		delete(t.conn.listeners, node)
		_ = sub.Unsubscribe() // the server has not got it
		return nil, fmt.Errorf("tunnel: listening for node %s: %w: %w", node, ErrForbidden, err)
	}
	return l, nil
}

// dialled answers a request for a stream: with nothing where it was accepted, else with the reason.
func (l *listener) dialled(m *nats.Msg) {
	err := l.accept(string(m.Data))
	var reason string
	if err != nil {
		reason = err.Error()
	}
	if err := m.Respond([]byte(reason)); err != nil {
		l.conn.report(fmt.Errorf("tunnel: answering a dial to node %s: %w", l.node, err))
	}
}

func (l *listener) accept(id string) error {
	if id == "" || strings.ContainsAny(id, " .*>") {
		return fmt.Errorf("stream ID %q is not one token", id)
	}
	if isClosed(l.closing) {
		return errors.New("the node stops listening")
	}
	s, err := newTunnelConn(l.conn, l.node, streamSubject(l.node, id, "n"), streamSubject(l.node, id, "c"))
	if err != nil {
		return err
	}
	select {
	case l.arrived <- s:
		return nil
	default:
		err := fmt.Errorf("the node has %d streams waiting to be accepted", backlog)
		s.abandon(err)
		return err
	}
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	select {
	case s := <-l.arrived:
		return s, nil
	case <-l.closing:
	case <-l.conn.done:
	}
	return nil, &net.OpError{Op: "accept", Net: TunnelRoot, Addr: l.Addr(), Err: net.ErrClosed}
}

// Close implements net.Listener. Streams that were accepted live on.
func (l *listener) Close() error {
	l.once.Do(func() {
		close(l.closing)
		_ = l.sub.Unsubscribe() // fails only where the connection is closed
		l.conn.mu.Lock()
		delete(l.conn.listeners, l.node)
		l.conn.mu.Unlock()
		for {
			select {
			case s := <-l.arrived:
				s.abandon(net.ErrClosed)
			default:
				return
			}
		}
	})
	return nil
}

// Addr implements net.Listener.
func (l *listener) Addr() net.Addr { return tunnelAddr(l.node) }

// tunnelAddr is a node's name as a network address.
type tunnelAddr string

func (tunnelAddr) Network() string  { return TunnelRoot }
func (a tunnelAddr) String() string { return string(a) }
