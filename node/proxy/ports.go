package proxy

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// servicePort is one port of a service with everything its rules depend on.
type servicePort struct {
	namespace, name string
	protocol        string // tcp, udp or sctp
	port, nodePort  uint16 // nodePort 0: none
	clusterIP       netip.Addr
	external        []netip.Addr // external IPs and those of the load balancer
	internalLocal   bool         // internalTrafficPolicy: Local
	externalLocal   bool         // externalTrafficPolicy: Local
	affinity        int32        // seconds; 0: none
	all, local      []endpoint   // usable ones, in order; local are those on this node
}

// endpoint is one place where a service port is served.
type endpoint struct {
	addr  netip.AddrPort
	local bool // it may be this node's: on it, or of unknown place
}

// id is the service port's name in chains and sets.
func (p *servicePort) id() string {
	return p.namespace + "/" + p.name + "/" + p.protocol + "/" + strconv.Itoa(int(p.port))
}

// Labels by which somebody else claims a service, or says that it is none to be proxied.
const (
	labelProxyName = "service.kubernetes.io/service-proxy-name"
	labelHeadless  = corev1.IsHeadlessService
)

// servicePorts lists the ports of all services to be proxied, in order, with their endpoints.
func servicePorts(c Config, services []*corev1.Service, eps []*discoveryv1.EndpointSlice) []*servicePort {
	bySlice := map[[2]string][]*discoveryv1.EndpointSlice{}
	for _, s := range eps {
		if s.AddressType == discoveryv1.AddressTypeIPv4 {
			key := [2]string{s.Namespace, s.Labels[discoveryv1.LabelServiceName]}
			bySlice[key] = append(bySlice[key], s)
		}
	}
	services = slices.Clone(services)
	slices.SortFunc(services, func(a, b *corev1.Service) int {
		return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
	})
	var out []*servicePort
	for _, s := range services {
		clusterIP, ok := proxied(s)
		if !ok {
			continue
		}
		for i := range s.Spec.Ports {
			p := newServicePort(s, &s.Spec.Ports[i], clusterIP)
			p.all, p.local = endpoints(c, bySlice[[2]string{s.Namespace, s.Name}], &s.Spec.Ports[i])
			out = append(out, p)
		}
	}
	return out
}

// proxied returns the service's IPv4 cluster address if there is one that is ours to serve.
func proxied(s *corev1.Service) (netip.Addr, bool) {
	_, other := s.Labels[labelProxyName]
	_, headless := s.Labels[labelHeadless]
	if s.Spec.Type == corev1.ServiceTypeExternalName || other || headless {
		return netip.Addr{}, false
	}
	for _, ip := range append([]string{s.Spec.ClusterIP}, s.Spec.ClusterIPs...) {
		if addr, ok := ipv4(ip); ok {
			return addr, true
		}
	}
	return netip.Addr{}, false
}

func newServicePort(s *corev1.Service, sp *corev1.ServicePort, clusterIP netip.Addr) *servicePort {
	p := &servicePort{
		namespace: s.Namespace, name: s.Name, protocol: protocol(sp.Protocol),
		port: uint16(sp.Port), nodePort: uint16(sp.NodePort), clusterIP: clusterIP,
		internalLocal: s.Spec.InternalTrafficPolicy != nil && *s.Spec.InternalTrafficPolicy == corev1.ServiceInternalTrafficPolicyLocal,
		externalLocal: s.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal,
	}
	for _, ip := range s.Spec.ExternalIPs {
		if addr, ok := ipv4(ip); ok {
			p.external = append(p.external, addr)
		}
	}
	for _, in := range s.Status.LoadBalancer.Ingress {
		viaProxy := in.IPMode != nil && *in.IPMode == corev1.LoadBalancerIPModeProxy
		if addr, ok := ipv4(in.IP); ok && !viaProxy {
			p.external = append(p.external, addr)
		}
	}
	slices.SortFunc(p.external, netip.Addr.Compare)
	p.external = slices.Compact(p.external)
	if s.Spec.SessionAffinity == corev1.ServiceAffinityClientIP {
		p.affinity = corev1.DefaultClientIPServiceAffinitySeconds
		if a := s.Spec.SessionAffinityConfig; a != nil && a.ClientIP != nil && a.ClientIP.TimeoutSeconds != nil {
			p.affinity = *a.ClientIP.TimeoutSeconds
		}
	}
	return p
}

// endpoints returns the usable endpoints of a service port: the ready ones or, where there are none, those that
// still serve while they terminate. All of them, and those on this node by the same rule.
func endpoints(c Config, in []*discoveryv1.EndpointSlice, sp *corev1.ServicePort) (all, local []endpoint) {
	var ready, dying []endpoint
	for _, s := range in {
		port, ok := slicePort(s, sp)
		if !ok {
			continue
		}
		for i := range s.Endpoints {
			e := &s.Endpoints[i]
			if len(e.Addresses) == 0 {
				continue
			}
			addr, ok := ipv4(e.Addresses[0])
			if !ok {
				continue // a slice that calls itself IPv4 and is not
			}
			end := endpoint{addr: netip.AddrPortFrom(addr, port), local: e.NodeName == nil || *e.NodeName == c.Node}
			isReady := e.Conditions.Ready == nil || *e.Conditions.Ready
			serving := isReady
			if e.Conditions.Serving != nil {
				serving = *e.Conditions.Serving
			}
			terminating := e.Conditions.Terminating != nil && *e.Conditions.Terminating
			switch {
			case isReady:
				ready = append(ready, end)
			case serving && terminating:
				dying = append(dying, end)
			}
		}
	}
	onNode := func(ends []endpoint) (out []endpoint) {
		for _, e := range ends {
			if e.local {
				out = append(out, e)
			}
		}
		return out
	}
	ready, dying = unique(ready), unique(dying)
	if all = ready; len(all) == 0 {
		all = dying
	}
	if local = onNode(ready); len(local) == 0 {
		local = onNode(dying)
	}
	return all, local
}

// slicePort finds the number under which a slice serves a service port.
func slicePort(s *discoveryv1.EndpointSlice, sp *corev1.ServicePort) (uint16, bool) {
	for _, p := range s.Ports {
		name, proto := "", corev1.ProtocolTCP
		if p.Name != nil {
			name = *p.Name
		}
		if p.Protocol != nil {
			proto = *p.Protocol
		}
		if name == sp.Name && p.Port != nil && protocol(proto) == protocol(sp.Protocol) {
			return uint16(*p.Port), true
		}
	}
	return 0, false
}

// unique sorts endpoints and keeps one of each address and port: slices may overlap while they are rewritten.
func unique(ends []endpoint) []endpoint {
	slices.SortFunc(ends, func(a, b endpoint) int { return a.addr.Compare(b.addr) })
	return slices.CompactFunc(ends, func(a, b endpoint) bool { return a.addr == b.addr })
}

func protocol(p corev1.Protocol) string {
	if p == "" {
		return "tcp"
	}
	return strings.ToLower(string(p))
}

// ipv4 parses an address of the family that the rules are for.
func ipv4(s string) (netip.Addr, bool) {
	addr, err := netip.ParseAddr(s)
	if err != nil || !addr.Is4() {
		return netip.Addr{}, false
	}
	return addr, true
}
