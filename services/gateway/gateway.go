package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	genericfilters "k8s.io/apiserver/pkg/endpoints/filters"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/apiserver/pkg/util/notfoundhandler"
	"k8s.io/client-go/rest"
	aggregatorapiserver "k8s.io/kube-aggregator/pkg/apiserver"
	controlplaneapiserver "k8s.io/kubernetes/pkg/controlplane/apiserver"

	logstorage "github.com/orlog-io/orlog/services/gateway/storage"
)

// renewEvery is how often certificates are looked at while running.
const renewEvery = 12 * time.Hour

// Gateway is the Kubernetes API on the log. Make it with New, serve with Run.
type Gateway struct {
	settings   *settings
	pki        *pki
	stores     *stores
	nodes      *nodeConnections
	nodePorts  *nodePorts
	aggregator *aggregatorapiserver.APIAggregator
	ready      chan struct{}
}

// New makes a gateway and opens its port; requests are answered once Run is called. Both stores must be
// following their logs already. ctx bounds the making only. One gateway at a time can exist in a process.
func New(ctx context.Context, o Options) (*Gateway, error) {
	s, err := o.settle()
	if err != nil {
		return nil, err
	}
	g, err := build(ctx, s)
	if err != nil {
		return nil, errors.Join(err, ignoreClosed(s.listener.Close()))
	}
	return g, nil
}

func build(ctx context.Context, s *settings) (*Gateway, error) {
	if err := claimProcess(s.Logger); err != nil {
		return nil, err
	}
	p, err := openPKI(s.pkiDir, servingNames(s), time.Now)
	if err != nil {
		releaseProcess()
		return nil, err
	}
	p.revoked = s.Ledger.Revoked
	g := &Gateway{settings: s, pki: p, ready: make(chan struct{}), nodes: newNodeConnections(s.Tunnel),
		stores: &stores{durable: logstorage.Backend{Log: s.Log, Store: s.Store},
			volatile: logstorage.Backend{Log: s.Volatile, Store: s.VolatileStore}}}
	if err := g.assemble(ctx); err != nil {
		releaseProcess()
		return nil, err
	}
	return g, nil
}

// assemble makes the three servers: aggregator, in front of the built-in groups, in front of CRDs.
func (g *Gateway) assemble(ctx context.Context) error {
	for _, b := range []logstorage.Backend{g.stores.durable, g.stores.volatile} {
		if err := logstorage.EnsureFirst(ctx, b); err != nil {
			return fmt.Errorf("gateway: %w (is the store following the log?)", err)
		}
	}
	opts, err := upstreamOptions(ctx, g.settings, g.pki)
	if err != nil {
		return err
	}
	c, err := g.configure(opts)
	if err != nil {
		return err
	}
	notFound := notfoundhandler.New(c.kube.Generic.Serializer, genericfilters.NoMuxAndDiscoveryIncompleteKey)
	extensions, err := c.extensions.Complete().New(genericapiserver.NewEmptyDelegateWithCustomHandler(notFound))
	if err != nil {
		return fmt.Errorf("gateway: CRD server: %w", err)
	}
	kube, err := g.newKubeServer(c.kube, extensions.GenericAPIServer)
	if err != nil {
		return err
	}
	g.aggregator, err = controlplaneapiserver.CreateAggregatorServer(c.aggregator.Complete(), kube.GenericAPIServer,
		extensions.Informers.Apiextensions().V1().CustomResourceDefinitions(), true, groupPriorities())
	if err != nil {
		return fmt.Errorf("gateway: aggregator: %w", err)
	}
	g.addEndpoints(kube.GenericAPIServer.Authorizer)
	return nil
}

// servingNames are the names and addresses under which clients reach the gateway.
func servingNames(s *settings) []string {
	names := []string{"localhost", "127.0.0.1", "::1", s.advertise.String(), s.serviceIP.String(),
		"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc." + s.ClusterDomain}
	if ip := s.listener.Addr().(*net.TCPAddr).IP; !ip.IsUnspecified() {
		names = append(names, ip.String())
	}
	return append(names, s.ExtraSANs...)
}

// Run serves until ctx ends, then shuts down gracefully: new requests are sent away, those in flight
// finish, and the endpoint of the kubernetes Service goes. It returns nil after a clean end. Call it once.
func (g *Gateway) Run(ctx context.Context) error {
	defer releaseProcess()
	defer g.nodes.close()
	prepared, err := g.aggregator.PrepareRun()
	if err != nil {
		return fmt.Errorf("gateway: preparing to serve: %w", errors.Join(err, ignoreClosed(g.settings.listener.Close())))
	}
	ctx, cancel := context.WithCancelCause(ctx)
	giveUp.Store(&cancel)
	var helpers sync.WaitGroup
	defer helpers.Wait()
	defer cancel(nil)
	context.AfterFunc(ctx, func() { closing.Store(true) })
	helpers.Go(func() { g.announce(ctx) })
	helpers.Go(func() { g.renewCertificates(ctx) })
	portsFailed := make(chan error, 1)
	helpers.Go(func() {
		if err := g.nodePorts.run(ctx, g.settings.Store, g.settings.Logger); err != nil {
			portsFailed <- err
			cancel(err)
		}
	})
	helpers.Go(func() { g.cutRevoked(ctx) })
	if err := prepared.Run(ctx); err != nil {
		return fmt.Errorf("gateway: %w", err)
	}
	if cause := context.Cause(ctx); errors.Is(cause, ErrUpstream) {
		return fmt.Errorf("gateway: %w", cause)
	}
	select {
	case err := <-portsFailed:
		return fmt.Errorf("gateway: %w", err)
	default:
		return nil
	}
}

// Ready is closed when /readyz first is green: built-in roles, namespaces and priority classes exist, and
// every cache is warm.
func (g *Gateway) Ready() <-chan struct{} { return g.ready }

// URL is where clients on this machine reach the gateway; AdvertiseURL where nodes and pods do.
func (g *Gateway) URL() string { return g.settings.address() }

// AdvertiseURL is where nodes and pods reach the gateway.
func (g *Gateway) AdvertiseURL() string {
	return "https://" + net.JoinHostPort(g.settings.advertise.String(), strconv.Itoa(g.settings.port))
}

// CABundle is the certificate authority in PEM: what pods find in the ConfigMap kube-root-ca.crt.
func (g *Gateway) CABundle() []byte { return g.pki.bundle() }

// ServiceIP is the ClusterIP of the kubernetes Service.
func (g *Gateway) ServiceIP() net.IP { return g.settings.serviceIP }

// LoopbackConfig is for clients in this process (reconcilers): it may do everything, is not rate limited, and
// speaks protobuf by default (set ContentType to JSON for dynamic clients). Impersonate with it to act as a
// controller's service account; then Orlog-Cause is honoured.
func (g *Gateway) LoopbackConfig() *rest.Config {
	return rest.CopyConfig(g.aggregator.GenericAPIServer.LoopbackClientConfig)
}

// announce closes Ready when the gateway says of itself that it is.
func (g *Gateway) announce(ctx context.Context) {
	client, err := rest.HTTPClientFor(g.LoopbackConfig())
	if err != nil {
		g.settings.Logger.Error("gateway: making the readiness client", "error", err)
		return
	}
	defer client.CloseIdleConnections()
	url := g.LoopbackConfig().Host + "/readyz"
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			g.settings.Logger.Error("gateway: asking for readiness", "error", err)
			return
		}
		if resp, err := client.Do(req); err == nil {
			green := resp.StatusCode == http.StatusOK
			if resp.Body.Close(); green {
				close(g.ready)
				return
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// renewCertificates keeps certificates young in a process that runs for months.
func (g *Gateway) renewCertificates(ctx context.Context) {
	tick := time.NewTicker(renewEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if err := g.pki.renew(); err != nil {
				g.settings.Logger.Error("gateway: renewing certificates; clients will be refused once they expire", "error", err)
			}
		}
	}
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
