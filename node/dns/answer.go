package dns

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// schema is the version of the specification that the names follow, as they say themselves.
const schema = "1.1.0"

// zone answers questions about names under one domain.
type zone struct {
	origin  string // "cluster.local."
	ttl     uint32
	records *records
	serials func() uint32 // of the SOA record
	own     []netip.Addr  // where this server listens
}

// answer is what a question gets. Without rrs it is "no such name" if nothing is known by that name, else "no data".
type answer struct {
	exists bool
	rrs    []dns.RR
	extra  []dns.RR // addresses of the names in rrs
	alias  string   // rrs is a CNAME to this name, in another zone
}

// answer answers a question about a name of the zone: q is the name as asked, labels those before the origin in
// lower case.
func (z *zone) answer(q string, labels []string, qtype uint16) answer {
	n := len(labels)
	if n == 0 {
		return z.apex(q, qtype)
	}
	switch labels[n-1] {
	case "svc":
		return z.serviceName(q, labels[:n-1], qtype)
	case "pod":
		return z.podName(q, labels[:n-1], qtype)
	case "dns-version":
		if n == 1 && qtype == dns.TypeTXT {
			return answer{exists: true, rrs: []dns.RR{&dns.TXT{Hdr: z.header(q, dns.TypeTXT), Txt: []string{schema}}}}
		}
		return answer{exists: n == 1}
	case "dns":
		if n == 2 && labels[0] == "ns" {
			return answer{exists: true, rrs: z.addresses(q, z.own, qtype)}
		}
		return answer{exists: n == 1}
	}
	return answer{}
}

func (z *zone) apex(q string, qtype uint16) answer {
	switch qtype {
	case dns.TypeSOA:
		return answer{exists: true, rrs: []dns.RR{z.soa()}}
	case dns.TypeNS:
		ns := "ns.dns." + z.origin
		return answer{exists: true, rrs: []dns.RR{&dns.NS{Hdr: z.header(q, dns.TypeNS), Ns: ns}},
			extra: append(z.addresses(ns, z.own, dns.TypeA), z.addresses(ns, z.own, dns.TypeAAAA)...)}
	}
	return answer{exists: true}
}

// podName answers "<address with dashes>.<namespace>", whether there is such a pod or not, as Kubernetes does by
// default: no node knows the pods of all others.
func (z *zone) podName(q string, labels []string, qtype uint16) answer {
	if len(labels) < 2 {
		return answer{exists: true}
	}
	ip, ok := undashed(labels[0])
	if len(labels) > 2 || !ok {
		return answer{}
	}
	return answer{exists: true, rrs: z.addresses(q, []netip.Addr{ip}, qtype)}
}

// serviceName answers the names below "svc".
func (z *zone) serviceName(q string, labels []string, qtype uint16) answer {
	n := len(labels)
	if n == 0 {
		return answer{exists: true}
	}
	if n == 1 {
		return answer{exists: z.records.hasNamespace(labels[0])}
	}
	name, namespace := labels[n-2], labels[n-1]
	s := z.records.find(objectName{namespace, name})
	if s == nil {
		return answer{}
	}
	full := name + "." + namespace + ".svc." + z.origin
	switch {
	case s.external != "":
		if n > 2 {
			return answer{}
		}
		target := dns.Fqdn(s.external)
		return answer{exists: true, alias: target, rrs: []dns.RR{&dns.CNAME{Hdr: z.header(q, dns.TypeCNAME), Target: target}}}
	case n == 2 && qtype == dns.TypeSRV:
		return z.srv(q, full, s, "", "")
	case n == 2:
		ips := s.ips
		for _, e := range s.ends {
			ips = append(ips, e.ip)
		}
		return answer{exists: true, rrs: z.addresses(q, ips, qtype)}
	case n == 3:
		return z.underService(q, full, s, labels[0], qtype)
	case n == 4 && strings.HasPrefix(labels[0], "_") && strings.HasPrefix(labels[1], "_"):
		a := z.srv(q, full, s, labels[0][1:], labels[1][1:])
		if qtype != dns.TypeSRV {
			a.rrs, a.extra = nil, nil
		}
		return a
	}
	return answer{}
}

// underService answers a label under a service: an endpoint, or the protocol of some port.
func (z *zone) underService(q, full string, s *service, label string, qtype uint16) answer {
	if protocol, ok := strings.CutPrefix(label, "_"); ok {
		return answer{exists: z.srv(q, full, s, "", protocol).exists}
	}
	var ips []netip.Addr
	var ports []port
	for _, e := range s.ends {
		if e.name == label {
			ips = append(ips, e.ip)
			ports = append(ports, e.ports...)
		}
	}
	if len(ips) == 0 {
		return answer{}
	}
	if qtype != dns.TypeSRV {
		return answer{exists: true, rrs: z.addresses(q, ips, qtype)}
	}
	a := answer{exists: true}
	z.addSRV(&a, q, label+"."+full, ips, ports)
	return a
}

// srv answers with the ports of a service that have the given name and protocol; empty ones fit all.
func (z *zone) srv(q, full string, s *service, name, protocol string) answer {
	fitting := func(all []port) (out []port) {
		for _, p := range all {
			if (name == "" || strings.EqualFold(p.name, name)) && (protocol == "" || p.protocol == protocol) {
				out = append(out, p)
			}
		}
		return out
	}
	a := answer{exists: name == "" && protocol == "" || len(fitting(s.ports)) > 0}
	if len(s.ips) > 0 {
		z.addSRV(&a, q, full, s.ips, fitting(s.ports))
	}
	for _, e := range s.ends {
		if ports := fitting(e.ports); len(ports) > 0 {
			a.exists = true
			z.addSRV(&a, q, e.name+"."+full, []netip.Addr{e.ip}, ports)
		}
	}
	return a
}

// addSRV adds one record for each port of a target, and the target's addresses. Endpoints of one host name share them.
func (z *zone) addSRV(a *answer, q, target string, ips []netip.Addr, ports []port) {
	for _, p := range ports {
		rr := &dns.SRV{Hdr: z.header(q, dns.TypeSRV), Weight: 100, Port: p.number, Target: target}
		if !slices.ContainsFunc(a.rrs, func(o dns.RR) bool { return o.(*dns.SRV).Port == rr.Port && o.(*dns.SRV).Target == target }) {
			a.rrs = append(a.rrs, rr)
		}
	}
	if len(ports) > 0 {
		a.extra = append(a.extra, z.addresses(target, ips, dns.TypeA)...)
		a.extra = append(a.extra, z.addresses(target, ips, dns.TypeAAAA)...)
	}
}

// addresses makes A or AAAA records of those addresses that fit the type.
func (z *zone) addresses(q string, ips []netip.Addr, qtype uint16) (out []dns.RR) {
	for _, ip := range ips {
		switch {
		case qtype == dns.TypeA && ip.Is4():
			out = append(out, &dns.A{Hdr: z.header(q, dns.TypeA), A: ip.AsSlice()})
		case qtype == dns.TypeAAAA && ip.Is6():
			out = append(out, &dns.AAAA{Hdr: z.header(q, dns.TypeAAAA), AAAA: ip.AsSlice()})
		}
	}
	return out
}

// pointers answers the reverse name of an address.
func (z *zone) pointers(q string, ip netip.Addr) (out []dns.RR) {
	for _, name := range z.records.namesOf(ip) {
		out = append(out, &dns.PTR{Hdr: z.header(q, dns.TypePTR), Ptr: name + z.origin})
	}
	return out
}

// soa heads the zone; answers without data carry it, so that clients know how long to believe them.
func (z *zone) soa() dns.RR {
	return &dns.SOA{
		Hdr: z.header(z.origin, dns.TypeSOA), Ns: "ns.dns." + z.origin, Mbox: "hostmaster." + z.origin,
		Serial: z.serials(), Refresh: 7200, Retry: 1800, Expire: 86400, Minttl: z.ttl,
	}
}

func (z *zone) header(name string, rrtype uint16) dns.RR_Header {
	return dns.RR_Header{Name: name, Rrtype: rrtype, Class: dns.ClassINET, Ttl: z.ttl}
}
