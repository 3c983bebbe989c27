package dns

import (
	"net/netip"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

type objectName struct{ namespace, name string }

// records is everything that names are made of: the cluster's services and endpoint slices. Safe for concurrent use.
type records struct {
	mu         sync.RWMutex
	services   map[objectName]*corev1.Service
	slices     map[objectName]*discoveryv1.EndpointSlice
	ofService  map[objectName]map[objectName]bool // names of the slices that carry a service's label
	namespaces map[string]int                     // how many services each has
	reverse    map[netip.Addr][]string            // names without the zone; nil: to be computed anew
}

func newRecords() *records {
	return &records{
		services:   map[objectName]*corev1.Service{},
		slices:     map[objectName]*discoveryv1.EndpointSlice{},
		ofService:  map[objectName]map[objectName]bool{},
		namespaces: map[string]int{},
	}
}

func (r *records) setService(key objectName, s *corev1.Service) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reverse = nil
	_, had := r.services[key]
	if s == nil {
		delete(r.services, key)
		if had {
			if r.namespaces[key.namespace]--; r.namespaces[key.namespace] == 0 {
				delete(r.namespaces, key.namespace)
			}
		}
		return
	}
	r.services[key] = s
	if !had {
		r.namespaces[key.namespace]++
	}
}

func (r *records) setSlice(key objectName, s *discoveryv1.EndpointSlice) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reverse = nil
	if old := r.slices[key]; old != nil {
		owner := objectName{key.namespace, old.Labels[discoveryv1.LabelServiceName]}
		delete(r.ofService[owner], key)
		if len(r.ofService[owner]) == 0 {
			delete(r.ofService, owner)
		}
	}
	if s == nil {
		delete(r.slices, key)
		return
	}
	r.slices[key] = s
	owner := objectName{key.namespace, s.Labels[discoveryv1.LabelServiceName]}
	if r.ofService[owner] == nil {
		r.ofService[owner] = map[objectName]bool{}
	}
	r.ofService[owner][key] = true
}

// hasNamespace says whether any service lives in a namespace.
func (r *records) hasNamespace(namespace string) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.namespaces[namespace] > 0
}

// service is what the names of one service answer.
type service struct {
	external string       // the name it stands for; nothing else is set then
	ips      []netip.Addr // its own addresses; none if it is headless
	ports    []port       // its own ports
	ends     []end        // of a headless service, in order
}

// end is one ready address behind a headless service.
type end struct {
	name  string // its label under the service's name
	ip    netip.Addr
	ports []port
}

type port struct {
	name, protocol string // protocol in lower case
	number         uint16
}

// find returns what a service answers, nil if there is none of that name.
func (r *records) find(key objectName) *service {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.findLocked(key)
}

func (r *records) findLocked(key objectName) *service {
	s := r.services[key]
	if s == nil {
		return nil
	}
	if s.Spec.Type == corev1.ServiceTypeExternalName {
		return &service{external: s.Spec.ExternalName}
	}
	out := &service{}
	for _, p := range s.Spec.Ports {
		out.ports = append(out.ports, port{p.Name, lower(p.Protocol), uint16(p.Port)})
	}
	for _, ip := range append([]string{s.Spec.ClusterIP}, s.Spec.ClusterIPs...) {
		if addr, err := netip.ParseAddr(ip); err == nil && !slices.Contains(out.ips, addr) {
			out.ips = append(out.ips, addr)
		}
	}
	if s.Spec.ClusterIP == corev1.ClusterIPNone {
		out.ends = r.ends(key)
	}
	return out
}

// ends lists the ready endpoints of a service, each address once.
func (r *records) ends(key objectName) []end {
	byAddress := map[netip.Addr]*end{}
	for name := range r.ofService[key] {
		s := r.slices[name]
		var ports []port
		for _, p := range s.Ports {
			if p.Port == nil {
				continue
			}
			known := port{protocol: "tcp", number: uint16(*p.Port)}
			if p.Name != nil {
				known.name = *p.Name
			}
			if p.Protocol != nil {
				known.protocol = lower(*p.Protocol)
			}
			ports = append(ports, known)
		}
		for i := range s.Endpoints {
			e := &s.Endpoints[i]
			if e.Conditions.Ready != nil && !*e.Conditions.Ready {
				continue
			}
			for _, a := range e.Addresses {
				ip, err := netip.ParseAddr(a)
				if err != nil {
					continue // of the kind FQDN
				}
				known := byAddress[ip]
				if known == nil {
					known = &end{name: dashed(ip), ip: ip}
					byAddress[ip] = known
				}
				if e.Hostname != nil && *e.Hostname != "" {
					known.name = strings.ToLower(*e.Hostname)
				}
				for _, p := range ports {
					if !slices.Contains(known.ports, p) {
						known.ports = append(known.ports, p)
					}
				}
			}
		}
	}
	out := make([]end, 0, len(byAddress))
	for _, e := range byAddress {
		out = append(out, *e)
	}
	slices.SortFunc(out, func(a, b end) int { return a.ip.Compare(b.ip) })
	return out
}

// namesOf returns the names, without the zone, that an address belongs to.
func (r *records) namesOf(ip netip.Addr) []string {
	r.mu.RLock()
	reverse := r.reverse
	r.mu.RUnlock()
	if reverse == nil {
		r.mu.Lock()
		if r.reverse == nil {
			r.reverse = r.computeReverse()
		}
		reverse = r.reverse
		r.mu.Unlock()
	}
	return reverse[ip]
}

func (r *records) computeReverse() map[netip.Addr][]string {
	out := map[netip.Addr][]string{}
	for key := range r.services {
		s := r.findLocked(key)
		under := key.name + "." + key.namespace + ".svc."
		for _, ip := range s.ips {
			out[ip] = append(out[ip], under)
		}
		for _, e := range s.ends {
			out[e.ip] = append(out[e.ip], e.name+"."+under)
		}
	}
	for _, names := range out {
		slices.Sort(names)
	}
	return out
}

// dashed is an address as one label: 10-244-0-5, fd00--1.
func dashed(ip netip.Addr) string {
	return strings.NewReplacer(".", "-", ":", "-").Replace(ip.String())
}

// undashed is the address that a label stands for.
func undashed(label string) (netip.Addr, bool) {
	if strings.Count(label, "-") == 3 && !strings.Contains(label, "--") {
		if ip, err := netip.ParseAddr(strings.ReplaceAll(label, "-", ".")); err == nil {
			return ip, true
		}
	}
	ip, err := netip.ParseAddr(strings.ReplaceAll(label, "-", ":"))
	return ip, err == nil
}

func lower(p corev1.Protocol) string {
	if p == "" {
		return "tcp"
	}
	return strings.ToLower(string(p))
}
