package dns

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/pkg/dnsutil"
	"github.com/coredns/coredns/plugin/pkg/upstream"
	"github.com/coredns/coredns/request"
	"github.com/miekg/dns"
)

// cluster is the plugin that answers for the cluster's zone and for the reverse names of its addresses.
type cluster struct {
	zone     *zone
	reverse  []netip.Prefix // the cluster's own: what is not known there does not exist
	upstream *upstream.Upstream
	next     plugin.Handler
}

// aliasDepth is the context's key for how many aliases led to a question: a service may be an alias of itself.
type aliasDepth struct{}

const maxAliases = 8

// Name implements plugin.Handler.
func (c *cluster) Name() string { return "cluster" }

// ServeDNS implements plugin.Handler.
func (c *cluster) ServeDNS(ctx context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
	state := request.Request{W: w, Req: r}
	name := state.Name() // lower case
	if !dns.IsSubDomain(c.zone.origin, name) {
		return c.serveReverse(ctx, state)
	}
	labels := dns.SplitDomainName(strings.TrimSuffix(name, c.zone.origin))
	a := c.zone.answer(state.QName(), labels, state.QType())
	m := c.reply(r, a)
	depth, _ := ctx.Value(aliasDepth{}).(int)
	if a.alias != "" && depth < maxAliases && (state.QType() == dns.TypeA || state.QType() == dns.TypeAAAA) {
		// Clients expect the server to follow the alias. If that fails they still have the alias.
		ctx := context.WithValue(ctx, aliasDepth{}, depth+1)
		if target, err := c.upstream.Lookup(ctx, state, a.alias, state.QType()); err == nil && target != nil {
			m.Answer = append(m.Answer, target.Answer...)
			m.Authoritative = false
		}
	}
	return dns.RcodeSuccess, w.WriteMsg(m)
}

// serveReverse answers for addresses that the cluster knows or owns, and leaves all else to the next plugin.
func (c *cluster) serveReverse(ctx context.Context, state request.Request) (int, error) {
	ip, err := netip.ParseAddr(dnsutil.ExtractAddressFromReverse(state.Name()))
	if err != nil {
		return plugin.NextOrFailure(c.Name(), c.next, ctx, state.W, state.Req)
	}
	names := c.zone.pointers(state.QName(), ip)
	ours := len(names) > 0
	for _, prefix := range c.reverse {
		ours = ours || prefix.Contains(ip)
	}
	if !ours {
		return plugin.NextOrFailure(c.Name(), c.next, ctx, state.W, state.Req)
	}
	a := answer{exists: len(names) > 0}
	if state.QType() == dns.TypePTR {
		a.rrs = names
	}
	return dns.RcodeSuccess, state.W.WriteMsg(c.reply(state.Req, a))
}

// reply makes a message of an answer. Addresses come in random order: many clients take the first.
func (c *cluster) reply(r *dns.Msg, a answer) *dns.Msg {
	m := new(dns.Msg)
	m.SetReply(r)
	m.Authoritative, m.RecursionAvailable = true, true
	m.Answer, m.Extra = a.rrs, a.extra
	rand.Shuffle(len(m.Answer), func(i, j int) { m.Answer[i], m.Answer[j] = m.Answer[j], m.Answer[i] })
	if len(a.rrs) == 0 {
		m.Ns = []dns.RR{c.zone.soa()}
		if !a.exists {
			m.Rcode = dns.RcodeNameError
		}
	}
	return m
}

// failures is the plugin that reports questions that could not be answered: the first at once, then how many there
// were, now and then, since a resolver that is down fails all of them.
type failures struct {
	log  *slog.Logger
	next plugin.Handler

	mu     sync.Mutex
	silent time.Time // until then failures are only counted
	count  int
}

const failureSilence = 30 * time.Second

// Name implements plugin.Handler.
func (f *failures) Name() string { return "failures" }

// ServeDNS implements plugin.Handler.
func (f *failures) ServeDNS(ctx context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
	code, err := plugin.NextOrFailure(f.Name(), f.next, ctx, w, r)
	if err != nil {
		f.report(r, err, time.Now())
	}
	return code, err
}

func (f *failures) report(r *dns.Msg, err error, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.count++
	if now.Before(f.silent) {
		return
	}
	f.log.Warn("dns: cannot answer", "name", r.Question[0].Name, "type", dns.TypeToString[r.Question[0].Qtype],
		"error", err, "failures", f.count)
	f.count, f.silent = 0, now.Add(failureSilence)
}
