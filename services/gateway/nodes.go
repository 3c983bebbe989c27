package gateway

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/apiserver/pkg/registry/rest"
	kubeletclient "k8s.io/kubernetes/pkg/kubelet/client"
	noderest "k8s.io/kubernetes/pkg/registry/core/node/rest"

	"github.com/orlog-io/orlog/events"
)

const (
	// agentPort is the port that agents pretend to serve the kubelet API on; nothing listens there.
	agentPort = "10250"
	// proxiedHost stands for a node where upstream insists on resolving the host name of a proxied node. It
	// is an address reserved for documentation: nothing is ever sent to it.
	proxiedHost = "192.0.2.1"
	// dialTimeout bounds how long a node may take to answer a dial.
	dialTimeout = 10 * time.Second
)

// nodeConnections reaches the agents' kubelet API (exec, attach, port-forward, logs) through the tunnel that
// each node keeps open. It speaks plain HTTP inside it: the tunnel is the node's own authenticated connection.
type nodeConnections struct {
	tunnel events.Tunnel
	shared *http.Transport

	mu      sync.Mutex
	perNode map[string]*http.Transport
}

func newNodeConnections(t events.Tunnel) *nodeConnections {
	n := &nodeConnections{tunnel: t, perNode: map[string]*http.Transport{}}
	n.shared = transportTo(func(ctx context.Context, _, addr string) (net.Conn, error) {
		node, _, err := net.SplitHostPort(addr)
		if err != nil {
			return nil, err
		}
		return n.dial(ctx, node)
	})
	return n
}

// transportTo is an HTTP transport without proxies, compression or HTTP/2 over a dialler.
func transportTo(dial func(ctx context.Context, network, addr string) (net.Conn, error)) *http.Transport {
	return &http.Transport{DialContext: dial, DisableCompression: true, MaxIdleConnsPerHost: 4, IdleConnTimeout: 30 * time.Second}
}

func (n *nodeConnections) dial(ctx context.Context, node string) (net.Conn, error) {
	if n.tunnel == nil {
		return nil, fmt.Errorf("node %s: this gateway was started without a tunnel: %w", node, events.ErrUnavailable)
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conn, err := n.tunnel.Dial(ctx, node)
	if err != nil {
		return nil, fmt.Errorf("node %s is not connected: %w", node, err)
	}
	return conn, nil
}

// GetConnectionInfo implements kubeletclient.ConnectionInfoGetter: the host is the node's name, which the
// transport dials through the tunnel.
func (n *nodeConnections) GetConnectionInfo(_ context.Context, node types.NodeName) (*kubeletclient.ConnectionInfo, error) {
	if n.tunnel == nil {
		return nil, apierrors.NewServiceUnavailable("this gateway was started without a tunnel to the nodes")
	}
	t := endingApart{n.shared}
	return &kubeletclient.ConnectionInfo{Scheme: "http", Hostname: string(node), Port: agentPort, Transport: t, InsecureSkipTLSVerifyTransport: t}, nil
}

// close drops idle connections.
func (n *nodeConnections) close() {
	n.shared.CloseIdleConnections()
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, t := range n.perNode {
		t.CloseIdleConnections()
	}
}

// proxiedConnections is nodeConnections for the nodes/proxy subresource: the host is proxiedHost and the
// transport knows the node.
type proxiedConnections struct{ *nodeConnections }

// GetConnectionInfo implements kubeletclient.ConnectionInfoGetter.
func (p proxiedConnections) GetConnectionInfo(ctx context.Context, node types.NodeName) (*kubeletclient.ConnectionInfo, error) {
	info, err := p.nodeConnections.GetConnectionInfo(ctx, node)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	t, known := p.perNode[string(node)]
	if !known {
		t = transportTo(func(ctx context.Context, _, _ string) (net.Conn, error) { return p.dial(ctx, string(node)) })
		p.perNode[string(node)] = t
	}
	info.Hostname, info.Transport, info.InsecureSkipTLSVerifyTransport = proxiedHost, t, t
	return info, nil
}

// nodeProxy is nodes/proxy limited to the agent: other ports of a node are not the control plane's to reach.
type nodeProxy struct{ *noderest.ProxyREST }

// Connect implements rest.Connecter.
func (p nodeProxy) Connect(ctx context.Context, id string, o runtime.Object, r rest.Responder) (http.Handler, error) {
	_, name, port, valid := utilnet.SplitSchemeNamePort(id)
	if valid && port != "" && port != agentPort {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("node %s: only the agent (port %s) can be reached through the node proxy, not port %s", name, agentPort, port))
	}
	return p.ProxyREST.Connect(ctx, id, o, r)
}
