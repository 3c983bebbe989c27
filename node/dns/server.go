package dns

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"

	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/cache"
	"github.com/coredns/coredns/plugin/forward"
	"github.com/coredns/coredns/plugin/pkg/proxy"
	"github.com/coredns/coredns/plugin/pkg/transport"
	"github.com/coredns/coredns/plugin/pkg/upstream"
	"github.com/miekg/dns"
	"github.com/vishvananda/netlink"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// Options say where to answer, for what, and whom to ask about the rest.
type Options struct {
	// Listen is where to answer, over UDP and TCP. At least one.
	Listen []netip.AddrPort
	// Link, if set, is an interface that gets the addresses of Listen, loopback ones excepted (see doc.go).
	Link string
	// Domain is the cluster's. Default "cluster.local".
	Domain string
	// Networks are those of services and pods: an unknown address of theirs has no name anywhere else either.
	Networks []netip.Prefix
	// Upstreams are resolvers ("address" or "address:port") for all other names. Nil: those of ResolvConf.
	Upstreams []string
	// ResolvConf is the host's resolver configuration. Default "/etc/resolv.conf".
	ResolvConf string
	// TTL of answers about the cluster, in seconds. Default 5.
	TTL uint32
	// Log receives what goes wrong. Default slog.Default().
	Log *slog.Logger
}

// Server answers questions. The methods that hand objects over are safe for concurrent use; what they are given must
// not be changed afterwards.
type Server struct {
	opts    Options
	records *records
	serial  atomic.Uint32
	serving chan struct{}
	addrs   []netip.AddrPort
}

// New checks the options and touches nothing yet.
func New(o Options) (*Server, error) {
	if len(o.Listen) == 0 {
		return nil, errors.New("dns: Listen: is empty")
	}
	if o.Domain == "" {
		o.Domain = "cluster.local"
	}
	if _, ok := dns.IsDomainName(o.Domain); !ok {
		return nil, fmt.Errorf("dns: Domain %q: is not a domain name", o.Domain)
	}
	o.Domain = strings.ToLower(dns.Fqdn(o.Domain))
	if o.ResolvConf == "" {
		o.ResolvConf = "/etc/resolv.conf"
	}
	if o.TTL == 0 {
		o.TTL = 5
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Upstreams == nil {
		var err error
		if o.Upstreams, err = hostResolvers(o.ResolvConf, o.Listen); err != nil {
			return nil, err
		}
	}
	for i, u := range o.Upstreams {
		at, err := upstreamAddress(u)
		if err != nil {
			return nil, err
		}
		o.Upstreams[i] = at
	}
	return &Server{opts: o, records: newRecords(), serving: make(chan struct{})}, nil
}

// hostResolvers reads the host's resolvers, without ourselves.
func hostResolvers(path string, own []netip.AddrPort) (out []string, err error) {
	config, err := dns.ClientConfigFromFile(path)
	if err != nil {
		return nil, fmt.Errorf("dns: ResolvConf: %w", err)
	}
	for _, server := range config.Servers {
		loop := false
		for _, o := range own {
			loop = loop || o.Addr().String() == server
		}
		if !loop {
			out = append(out, net.JoinHostPort(server, config.Port))
		}
	}
	return out, nil
}

func upstreamAddress(s string) (string, error) {
	if at, err := netip.ParseAddrPort(s); err == nil {
		return at.String(), nil
	}
	ip, err := netip.ParseAddr(s)
	if err != nil {
		return "", fmt.Errorf("dns: Upstreams %q: is neither an address nor address:port", s)
	}
	return netip.AddrPortFrom(ip, 53).String(), nil
}

// Service hands over the newest state of a service, nil if it was deleted.
func (s *Server) Service(namespace, name string, service *corev1.Service) {
	s.records.setService(objectName{namespace, name}, service)
	s.serial.Add(1)
}

// EndpointSlice hands over the newest state of an endpoint slice, nil if it was deleted.
func (s *Server) EndpointSlice(namespace, name string, slice *discoveryv1.EndpointSlice) {
	s.records.setSlice(objectName{namespace, name}, slice)
	s.serial.Add(1)
}

// Serving is closed when Run answers questions.
func (s *Server) Serving() <-chan struct{} { return s.serving }

// Addrs are the addresses of Listen with the ports that were chosen, once Serving is closed.
func (s *Server) Addrs() []netip.AddrPort { return s.addrs }

// Run answers questions until ctx ends. Call it once. It fails if it cannot listen.
func (s *Server) Run(ctx context.Context) error {
	if err := s.addToLink(); err != nil {
		return err
	}
	forwarder, stop := s.forwarder()
	defer stop()
	// Run ends with its context, with the first socket that breaks, or before it began; the others follow.
	group, ctx := errgroup.WithContext(ctx)
	for _, at := range s.opts.Listen {
		server, packets, streams, err := s.listen(ctx, at, forwarder)
		if err != nil {
			group.Go(func() error { return err })
			break
		}
		s.addrs = append(s.addrs, packets.LocalAddr().(*net.UDPAddr).AddrPort())
		group.Go(func() error { return s.served(ctx, "UDP", at, server.ServePacket(packets)) })
		group.Go(func() error { return s.served(ctx, "TCP", at, server.Serve(streams)) })
		group.Go(func() error {
			<-ctx.Done()
			// Closing first: the server waits for questions in progress, but would miss one that just begins to serve.
			return errors.Join(ignoreClosed(packets.Close()), ignoreClosed(streams.Close()), ignoreClosed(server.Stop()))
		})
	}
	if len(s.addrs) == len(s.opts.Listen) {
		close(s.serving)
	}
	return group.Wait()
}

// served tells a socket that broke from one that was closed.
func (s *Server) served(ctx context.Context, protocol string, at netip.AddrPort, err error) error {
	if ctx.Err() != nil {
		return nil //nolint:nilerr // it was told to end
	}
	return fmt.Errorf("dns: %s at %s: %w", protocol, at, err)
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) || err != nil && strings.Contains(err.Error(), "server not started") {
		return nil
	}
	return err
}

// listen opens both sockets of an address and makes the server for them.
func (s *Server) listen(ctx context.Context, at netip.AddrPort, forwarder plugin.Handler) (*dnsserver.Server, net.PacketConn, net.Listener, error) {
	packets, streams, err := bind(ctx, at)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("dns: Listen: %w", err)
	}
	bound := packets.LocalAddr().(*net.UDPAddr).AddrPort()
	own := &zone{origin: s.opts.Domain, ttl: s.opts.TTL, records: s.records, serials: s.serial.Load}
	for _, l := range s.opts.Listen {
		own.own = append(own.own, l.Addr())
	}
	config := &dnsserver.Config{Zone: ".", Transport: transport.DNS, Plugin: []plugin.Plugin{
		func(next plugin.Handler) plugin.Handler { return &failures{log: s.opts.Log, next: next} },
		func(next plugin.Handler) plugin.Handler {
			return &cluster{zone: own, reverse: s.opts.Networks, upstream: upstream.New(), next: next}
		},
	}}
	if forwarder != nil {
		config.AddPlugin(func(plugin.Handler) plugin.Handler { return forwarder })
	}
	server, err := dnsserver.NewServer(transport.DNS+"://"+bound.String(), []*dnsserver.Config{config})
	if err != nil {
		packets.Close()
		streams.Close()
		return nil, nil, nil, fmt.Errorf("dns: %w", err)
	}
	return server, packets, streams, nil
}

// bindAttempts bounds the search for a port that is free for both protocols.
const bindAttempts = 16

// bind opens one port for UDP and TCP. Where any port will do, one that is free for UDP may be taken for TCP:
// then it looks for another.
func bind(ctx context.Context, at netip.AddrPort) (packets net.PacketConn, streams net.Listener, err error) {
	var lc net.ListenConfig
	for range bindAttempts {
		if packets, err = lc.ListenPacket(ctx, "udp", at.String()); err != nil {
			return nil, nil, err
		}
		port := packets.LocalAddr().(*net.UDPAddr).AddrPort().Port()
		if streams, err = lc.Listen(ctx, "tcp", netip.AddrPortFrom(at.Addr(), port).String()); err == nil {
			return packets, streams, nil
		}
		packets.Close()
		if at.Port() != 0 {
			break
		}
	}
	return nil, nil, err
}

// forwarder asks the upstreams and remembers their answers. Without upstreams, foreign names cannot be answered.
func (s *Server) forwarder() (h plugin.Handler, stop func()) {
	if len(s.opts.Upstreams) == 0 {
		return nil, func() {}
	}
	f := forward.New()
	for _, u := range s.opts.Upstreams {
		f.SetProxy(proxy.NewProxy("forward", u, transport.DNS))
	}
	c := cache.New()
	c.Next = f
	return c, func() { _ = f.OnShutdown() } // it always returns nil
}

// addToLink gives the link the addresses to listen on.
func (s *Server) addToLink() error {
	if s.opts.Link == "" {
		return nil
	}
	link, err := netlink.LinkByName(s.opts.Link)
	if err != nil {
		return fmt.Errorf("dns: Link %s: %w", s.opts.Link, err)
	}
	for _, at := range s.opts.Listen {
		ip := at.Addr()
		if ip.IsLoopback() {
			continue
		}
		host := &net.IPNet{IP: ip.AsSlice(), Mask: net.CIDRMask(ip.BitLen(), ip.BitLen())}
		if err := netlink.AddrReplace(link, &netlink.Addr{IPNet: host}); err != nil {
			return fmt.Errorf("dns: address %s on Link %s: %w", ip, s.opts.Link, err)
		}
	}
	return nil
}
