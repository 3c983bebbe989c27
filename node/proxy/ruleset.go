package proxy

import (
	"net/netip"
	"time"

	"sigs.k8s.io/knftables"
)

// Ruleset is the whole content of the table, as a value.
type Ruleset struct {
	chains map[string]*chain
	sets   map[string]*set
	// udp lists where UDP is served, so that flows that go elsewhere can be cut (see conntrack.go).
	udp map[frontend][]netip.AddrPort
	// Conflicts names services that asked for what another one already has, one line each: they go without.
	Conflicts []string
}

// chain is a list of rules. With a hook it is where packets come in.
type chain struct {
	hook  *hook
	rules []string
}

type hook struct {
	kind     knftables.BaseChainType
	at       knftables.BaseChainHook
	priority knftables.BaseChainPriority
}

// set is a named set, or a map if its type has a colon.
type set struct {
	kind     string            // e.g. "ipv4_addr . inet_service : verdict"
	elements map[string]string // key to value, "" in a set
	timeout  time.Duration     // not 0: the kernel adds elements, which expire; elements is nil
}

func (s *set) isMap() bool {
	for i := range s.kind {
		if s.kind[i] == ':' {
			return true
		}
	}
	return false
}

// frontend is an address and port that clients send to. Without an address it is a port of the node's own addresses.
type frontend struct {
	addr netip.Addr
	port uint16
}

// rule appends a rule to a chain, which it makes if need be.
func (r *Ruleset) rule(name string, args ...any) {
	c := r.chains[name]
	if c == nil {
		c = &chain{}
		r.chains[name] = c
	}
	c.rules = append(c.rules, knftables.Concat(args...))
}

// claim puts an element into a map unless the key is taken, and says whether it did.
func (r *Ruleset) claim(name, key, value string) bool {
	elements := r.sets[name].elements
	if _, taken := elements[key]; taken {
		return false
	}
	elements[key] = value
	return true
}

const (
	setServices     = "services"      // by address, protocol, port: which chain
	setNodePorts    = "node-ports"    // by protocol, port
	setHostIPPorts  = "host-ip-ports" // pods' host ports on one address: which pod
	setHostPorts    = "host-ports"    // pods' host ports on every address
	setUnserved     = "unserved"      // services without endpoints: refuse or drop
	setUnservedNode = "unserved-node-ports"
	setClusterIPs   = "cluster-ips" // whatever still goes there after rewriting is refused
	setHairpin      = "hairpin"     // local endpoints, as source and destination

	chainDispatch  = "dispatch"
	chainOwn       = "own-addresses"
	chainRefuse    = "refuse-unserved"
	chainRefuseOwn = "refuse-unserved-node-ports"
	chainMark      = "mark-for-masquerade"
)

// skeleton is the table without any service.
func skeleton(c Config) *Ruleset {
	r := &Ruleset{chains: map[string]*chain{}, sets: map[string]*set{}, udp: map[frontend][]netip.AddrPort{}}
	for name, kind := range map[string]string{
		setServices:     "ipv4_addr . inet_proto . inet_service : verdict",
		setNodePorts:    "inet_proto . inet_service : verdict",
		setHostIPPorts:  "ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service",
		setHostPorts:    "inet_proto . inet_service : ipv4_addr . inet_service",
		setUnserved:     "ipv4_addr . inet_proto . inet_service : verdict",
		setUnservedNode: "inet_proto . inet_service : verdict",
		setClusterIPs:   "ipv4_addr",
		setHairpin:      "ipv4_addr . ipv4_addr",
	} {
		r.sets[name] = &set{kind: kind, elements: map[string]string{}}
	}
	base := func(name string, kind knftables.BaseChainType, at knftables.BaseChainHook, priority knftables.BaseChainPriority) {
		r.chains[name] = &chain{hook: &hook{kind, at, priority}}
	}
	base("nat-prerouting", knftables.NATType, knftables.PreroutingHook, knftables.DNATPriority)
	r.rule("nat-prerouting", "jump", chainDispatch)
	base("nat-output", knftables.NATType, knftables.OutputHook, "-100") // nft knows "dstnat" in prerouting only
	r.rule("nat-output", "jump", chainDispatch)

	r.rule(chainDispatch, "ip daddr . meta l4proto . th dport vmap @"+setServices)
	r.rule(chainDispatch, "fib daddr type local jump", chainOwn)
	r.rule(chainOwn, "meta l4proto . th dport vmap @"+setNodePorts)
	r.rule(chainOwn, "dnat ip to ip daddr . meta l4proto . th dport map @"+setHostIPPorts)
	r.rule(chainOwn, "dnat ip to meta l4proto . th dport map @"+setHostPorts)

	mark := hex(c.Mark)
	r.rule(chainMark, "meta mark set meta mark or", mark)
	base("nat-postrouting", knftables.NATType, knftables.PostroutingHook, knftables.SNATPriority)
	r.rule("nat-postrouting", "ip saddr . ip daddr @"+setHairpin, "masquerade")
	r.rule("nat-postrouting", "meta mark and", mark, "==", mark, "meta mark set meta mark xor", mark, "masquerade")
	// 127.0.0.1:<host port>: the loopback address must not leave the host.
	r.rule("nat-postrouting", "ct status dnat ip saddr 127.0.0.0/8 ip daddr != 127.0.0.0/8 masquerade")

	r.rule(chainRefuse, "ip daddr . meta l4proto . th dport vmap @"+setUnserved)
	r.rule(chainRefuse, "ip daddr @"+setClusterIPs, "reject")
	r.rule(chainRefuseOwn, "fib daddr type local meta l4proto . th dport vmap @"+setUnservedNode)
	for _, h := range []knftables.BaseChainHook{knftables.InputHook, knftables.ForwardHook, knftables.OutputHook} {
		name := "filter-" + string(h)
		base(name, knftables.FilterType, h, knftables.FilterPriority)
		r.rule(name, "ct state new jump", chainRefuse)
		if h != knftables.ForwardHook {
			r.rule(name, "ct state new jump", chainRefuseOwn)
		}
	}
	r.rule("refuse", "reject")
	return r
}
