package proxy

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// Compute returns the rules for the given objects: all services and their IPv4 endpoint slices, and the pods of
// this node. Pure; the order of the arguments does not matter. Where two services ask for the same address and
// port, the first by namespace and name has it.
func Compute(c Config, services []*corev1.Service, slices []*discoveryv1.EndpointSlice, pods []*corev1.Pod) *Ruleset {
	r := skeleton(c)
	for _, p := range servicePorts(c, services, slices) {
		r.addService(c, p)
	}
	r.addHostPorts(pods)
	return r
}

// addService adds everything about one service port.
func (r *Ruleset) addService(c Config, p *servicePort) {
	for _, e := range p.all {
		if e.local {
			ip := e.addr.Addr().String()
			r.sets[setHairpin].elements[ip+" . "+ip] = ""
		}
	}
	r.sets[setClusterIPs].elements[p.clusterIP.String()] = ""

	internal, ends := "svc/"+p.id(), p.all
	if p.internalLocal {
		internal, ends = "loc/"+p.id(), p.local
	}
	verdict := "goto " + internal
	switch {
	case len(p.all) == 0:
		verdict = "goto refuse"
	case len(ends) == 0:
		verdict = "drop" // it is served, but not for this node
	}
	r.expose(p, frontend{p.clusterIP, p.port}, verdict, ends)
	if len(ends) > 0 {
		r.addPick(c, p, internal, ends)
	}
	r.addExternal(c, p)
}

// addExternal adds the ways in from outside: node port and external addresses.
func (r *Ruleset) addExternal(c Config, p *servicePort) {
	var ways []frontend
	for _, ip := range p.external {
		ways = append(ways, frontend{ip, p.port})
	}
	if p.nodePort != 0 {
		ways = append(ways, frontend{port: p.nodePort})
	}
	if len(ways) == 0 {
		return
	}
	if len(p.all) == 0 {
		for _, w := range ways {
			r.expose(p, w, "goto refuse", nil)
		}
		return
	}
	ext, all, local := "ext/"+p.id(), "svc/"+p.id(), "loc/"+p.id()
	for _, w := range ways {
		r.expose(p, w, "goto "+ext, p.all)
	}
	r.addPick(c, p, all, p.all)
	if !p.externalLocal {
		r.rule(ext, "jump", chainMark)
		r.rule(ext, "goto", all)
		return
	}
	// The cluster's own traffic may go anywhere: only what comes from outside has to stay on the node, for the
	// sake of its source address.
	if c.ClusterCIDR.IsValid() {
		r.rule(ext, "ip saddr", c.ClusterCIDR, "goto", all)
	}
	r.rule(ext, "fib saddr type local jump", chainMark)
	r.rule(ext, "fib saddr type local goto", all)
	if len(p.local) > 0 {
		r.rule(ext, "goto", local)
		r.addPick(c, p, local, p.local)
		return
	}
	for _, w := range ways { // what the chain let pass is from outside
		r.unserved(p, w, "drop")
	}
}

// expose makes a frontend lead to verdict: a chain that serves it, or what befalls packets that nothing serves.
func (r *Ruleset) expose(p *servicePort, w frontend, verdict string, ends []endpoint) {
	if p.protocol == "udp" {
		if _, taken := r.udp[w]; !taken {
			r.udp[w] = addrs(ends)
		}
	}
	if verdict == "drop" || verdict == "goto refuse" {
		r.unserved(p, w, verdict)
		return
	}
	name, key := setServices, key(w, p.protocol)
	if !w.addr.IsValid() {
		name = setNodePorts
	}
	if !r.claim(name, key, verdict) {
		r.conflict(p.namespace, p.name, name, key)
	}
}

// unserved decides what befalls packets to a frontend that were not rewritten.
func (r *Ruleset) unserved(p *servicePort, w frontend, verdict string) {
	name := setUnserved
	if !w.addr.IsValid() {
		name = setUnservedNode
	}
	r.claim(name, key(w, p.protocol), verdict) // the first one decides; nothing is lost by the second
}

func (r *Ruleset) conflict(namespace, name, where, key string) {
	r.Conflicts = append(r.Conflicts, fmt.Sprintf("%s/%s: %s { %s } is taken", namespace, name, where, key))
}

// addPick fills the chain that sends a connection to one of ends, unless it is there already.
func (r *Ruleset) addPick(c Config, p *servicePort, name string, ends []endpoint) {
	if r.chains[name] != nil {
		return
	}
	if c.ClusterCIDR.IsValid() {
		// Not a pod: it may be 127.0.0.1, or somebody outside who routes to ClusterIPs through this node.
		r.rule(name, "ip daddr", p.clusterIP, "ip saddr !=", c.ClusterCIDR, "jump", chainMark)
	}
	if p.affinity > 0 {
		r.addSticky(p, name, ends)
		return
	}
	if len(ends) == 1 {
		r.rule(name, "meta l4proto", p.protocol, "dnat ip to", ends[0].addr)
		return
	}
	choices := make([]string, len(ends))
	for i, e := range ends {
		choices[i] = fmt.Sprintf("%d : %s . %d", i, e.addr.Addr(), e.addr.Port())
	}
	r.rule(name, "meta l4proto", p.protocol, "dnat ip to numgen random mod", len(ends),
		"map {", strings.Join(choices, ", "), "}")
}

// addSticky sends a client to the endpoint that it had before, if that was not too long ago.
func (r *Ruleset) addSticky(p *servicePort, name string, ends []endpoint) {
	choices := make([]string, len(ends))
	for i, e := range ends {
		id := fmt.Sprintf("%s/%s/%d", p.id(), e.addr.Addr(), e.addr.Port())
		// The timeout is a part of the name because that of an existing set cannot be changed.
		clients := "aff/" + id + "/" + strconv.Itoa(int(p.affinity))
		r.sets[clients] = &set{kind: "ipv4_addr", timeout: time.Duration(p.affinity) * time.Second}
		r.rule(name, "ip saddr @"+clients, "goto end/"+id)
		choices[i] = fmt.Sprintf("%d : goto end/%s", i, id)
		if r.chains["end/"+id] == nil {
			r.rule("end/"+id, "update @"+clients, "{ ip saddr }")
			r.rule("end/"+id, "meta l4proto", p.protocol, "dnat ip to", e.addr)
		}
	}
	r.rule(name, "numgen random mod", len(ends), "vmap {", strings.Join(choices, " , "), "}")
}

// key is a frontend's key in the sets.
func key(w frontend, protocol string) string {
	if !w.addr.IsValid() {
		return fmt.Sprintf("%s . %d", protocol, w.port)
	}
	return fmt.Sprintf("%s . %s . %d", w.addr, protocol, w.port)
}

func addrs(ends []endpoint) []netip.AddrPort {
	out := make([]netip.AddrPort, len(ends))
	for i, e := range ends {
		out[i] = e.addr
	}
	return out
}

func hex(n uint32) string { return fmt.Sprintf("0x%x", n) }
