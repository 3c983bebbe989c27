package gateway

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
	utilnet "k8s.io/apimachinery/pkg/util/net"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/projections"
	"github.com/orlog-io/orlog/services/access"
)

// Options configure a gateway. The caller owns what it passes in: it opened the logs and stores, runs
// Follow on both stores for as long as the gateway runs, and closes them afterwards.
type Options struct {
	// DataDir holds what must survive a restart: pki/.
	DataDir string
	// Listen is host:port of the HTTPS listener; port 0 takes a free one. Default 0.0.0.0:6443.
	Listen string
	// AdvertiseAddress is the IP at which nodes and pods reach the gateway: the endpoint of the kubernetes
	// Service. Default: the address listened on or, where that is unspecified or loopback, the host's own.
	AdvertiseAddress string
	// ServiceCIDR is where ClusterIPs come from; its first address is the kubernetes Service. Default
	// 10.96.0.0/16.
	ServiceCIDR string
	// NodePorts is the range of node ports, inclusive. Default 30000-32767.
	NodePorts string
	// ClusterDomain is the DNS domain of the cluster. Default cluster.local.
	ClusterDomain string
	// ExtraSANs are further names and IPs for the serving certificate.
	ExtraSANs []string
	// ServiceAccountIssuer is the iss of service-account tokens and their audience. Default
	// https://kubernetes.default.svc.<ClusterDomain>.
	ServiceAccountIssuer string
	// AuthenticationConfig is the path of an upstream AuthenticationConfiguration (OIDC issuers, anonymous
	// access); it replaces the built-in one, which lets anonymous clients see health and version only.
	AuthenticationConfig string
	// EventTTL is how long core/v1 Events (Kubernetes' own, not the log's) live after they were last written.
	// 0: for ever.
	EventTTL time.Duration

	// Log and Store hold everything; Volatile and VolatileStore the objects that are not history (Leases).
	Log, Volatile        events.Log
	Store, VolatileStore *projections.Store
	// Ledger knows which client certificates are revoked; the caller runs it. Default: one of Store's own that
	// nobody runs, which knows of none.
	Ledger *access.Ledger
	// LogClients says how clients of the log reach it, for those who ask at /orlog/v1/log; nil where its users
	// are somebody else's affair.
	LogClients *LogClients
	// Tunnel reaches nodes. nil: exec, attach, port-forward and logs answer 503.
	Tunnel events.Tunnel

	// Logger receives upstream's klog too, which is process-wide. Default slog.Default().
	Logger *slog.Logger

	// Metrics are served at /metrics beside upstream's; nil: upstream's alone. Tracer makes upstream's spans of
	// requests, which what they write belongs to; nil: none, and a client's traceparent is passed on as it came.
	Metrics prometheus.Gatherer
	Tracer  trace.TracerProvider
}

// LogClients is what a client of the log needs besides a key that is let in.
type LogClients struct {
	// URL of the log's server, as those reach it who are elsewhere.
	URL string `json:"url"`
	// Authority is the certificate that the server's is checked against, PEM.
	Authority string `json:"certificateAuthority"`
}

// settings is Options, checked and parsed.
type settings struct {
	Options
	listener  net.Listener
	clients   *clientListener // the same
	port      int
	advertise net.IP
	services  net.IPNet
	serviceIP net.IP
	nodePorts utilnet.PortRange
	pkiDir    string
}

// address is the URL under which clients on this machine reach the gateway.
func (s *settings) address() string {
	host := s.listener.Addr().(*net.TCPAddr).IP
	if host.IsUnspecified() {
		host = net.IPv4(127, 0, 0, 1)
	}
	return "https://" + net.JoinHostPort(host.String(), strconv.Itoa(s.port))
}

// settle fills in defaults, checks every field and opens the listener.
func (o Options) settle() (*settings, error) {
	s := &settings{Options: o}
	defaultTo(&s.Listen, "0.0.0.0:6443")
	defaultTo(&s.ServiceCIDR, "10.96.0.0/16")
	defaultTo(&s.NodePorts, "30000-32767")
	defaultTo(&s.ClusterDomain, "cluster.local")
	defaultTo(&s.ServiceAccountIssuer, "https://kubernetes.default.svc."+s.ClusterDomain)
	if s.Logger == nil {
		s.Logger = slog.Default()
	}
	if s.Ledger == nil {
		s.Ledger = access.New(s.Store, s.Logger)
	}
	if err := s.check(); err != nil {
		return nil, err
	}
	s.pkiDir = filepath.Join(s.DataDir, "pki")
	if err := os.MkdirAll(s.pkiDir, 0o700); err != nil {
		return nil, fmt.Errorf("gateway: DataDir: %w", err)
	}
	listener, err := net.Listen("tcp", s.Listen)
	if err != nil {
		return nil, fmt.Errorf("gateway: Listen %q: %w (is another orlogd running, or give another port)", s.Listen, err)
	}
	s.clients = trackClients(listener)
	s.listener, s.port = s.clients, listener.Addr().(*net.TCPAddr).Port
	if s.advertise == nil {
		if s.advertise, err = hostAddress(listener.Addr().(*net.TCPAddr).IP); err != nil {
			return nil, errors.Join(err, listener.Close())
		}
	}
	return s, nil
}

func (s *settings) check() error {
	switch {
	case s.DataDir == "":
		return errors.New("gateway: DataDir is required")
	case s.Log == nil || s.Store == nil:
		return errors.New("gateway: Log and Store are required")
	case s.Volatile == nil || s.VolatileStore == nil:
		return errors.New("gateway: Volatile and VolatileStore are required")
	case s.EventTTL < 0 || s.EventTTL > 0 && s.EventTTL < time.Second:
		return fmt.Errorf("gateway: EventTTL %s: want 0 (Events do not expire) or at least a second", s.EventTTL)
	}
	_, cidr, err := net.ParseCIDR(s.ServiceCIDR)
	if err != nil {
		return fmt.Errorf("gateway: ServiceCIDR: %w", err)
	}
	prefix, err := netip.ParsePrefix(cidr.String())
	if err != nil {
		return fmt.Errorf("gateway: ServiceCIDR: %w", err)
	}
	if size := prefix.Addr().BitLen() - prefix.Bits(); size < 4 || size > 20 {
		return fmt.Errorf("gateway: ServiceCIDR %s must hold between 16 and 1,048,576 addresses", cidr)
	}
	s.services, s.serviceIP = *cidr, net.IP(prefix.Masked().Addr().Next().AsSlice())
	ports, err := utilnet.ParsePortRange(s.NodePorts)
	if err != nil {
		return fmt.Errorf("gateway: NodePorts: %w", err)
	}
	s.nodePorts = *ports
	if s.AdvertiseAddress != "" {
		if s.advertise = net.ParseIP(s.AdvertiseAddress); s.advertise == nil {
			return fmt.Errorf("gateway: AdvertiseAddress %q is not an IP address", s.AdvertiseAddress)
		}
		if s.advertise.IsLoopback() || s.advertise.IsUnspecified() {
			return fmt.Errorf("gateway: AdvertiseAddress %s: pods cannot reach it; give an address of this host", s.advertise)
		}
	}
	return nil
}

// hostAddress finds an address of this host that others can reach.
func hostAddress(listen net.IP) (net.IP, error) {
	if !listen.IsUnspecified() && !listen.IsLoopback() {
		return listen, nil
	}
	if ip, err := utilnet.ChooseHostInterface(); err == nil {
		return ip, nil
	}
	// No default route: an isolated machine still has addresses that its own pods reach.
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("gateway: AdvertiseAddress: listing this host's addresses: %w", err)
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.IsGlobalUnicast() {
			return n.IP, nil
		}
	}
	return nil, errors.New("gateway: AdvertiseAddress: this host has only loopback addresses; add one that pods can reach, or set it")
}

func defaultTo(field *string, value string) {
	if *field == "" {
		*field = value
	}
}
