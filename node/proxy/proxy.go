package proxy

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"sigs.k8s.io/knftables"
)

const (
	// gather is how long Run waits for more changes after the first one: a rollout changes slices in bursts, and
	// writing costs a process. Where there are so many services that writing takes longer, it waits twice as long as
	// that took, so that at most a third of its time goes into writing; but never longer than gatherMax.
	gather    = 10 * time.Millisecond
	gatherMax = time.Second

	retryMin = 100 * time.Millisecond
	retryMax = 10 * time.Second
)

// Proxy keeps one nftables table in step with services, endpoint slices and pods. The methods that hand objects
// over are safe for concurrent use and never wait; what they are given must not be changed afterwards.
type Proxy struct {
	opts Options
	nft  knftables.Interface

	mu       sync.Mutex
	services map[objectName]*corev1.Service
	slices   map[objectName]*discoveryv1.EndpointSlice
	pods     map[objectName]*corev1.Pod
	changed  chan struct{} // one token: something changed since the last read

	written   *Ruleset // what the table holds; nil: unknown. Run's own, as is conflicts
	conflicts []string // those that were logged
	synced    chan struct{}
	syncOnce  sync.Once
}

type objectName struct{ namespace, name string }

// New checks that nftables works and touches nothing yet.
func New(o Options) (*Proxy, error) {
	o, err := o.complete()
	if err != nil {
		return nil, err
	}
	nft, err := knftables.New(knftables.IPv4Family, o.Table)
	if err != nil {
		return nil, fmt.Errorf("proxy: nftables: %w", err)
	}
	return &Proxy{
		opts: o, nft: nft,
		services: map[objectName]*corev1.Service{},
		slices:   map[objectName]*discoveryv1.EndpointSlice{},
		pods:     map[objectName]*corev1.Pod{},
		changed:  make(chan struct{}, 1),
		synced:   make(chan struct{}),
	}, nil
}

// Service hands over the newest state of a service, nil if it was deleted.
func (p *Proxy) Service(namespace, name string, s *corev1.Service) {
	handOver(p, p.services, objectName{namespace, name}, s)
}

// EndpointSlice hands over the newest state of an endpoint slice, nil if it was deleted.
func (p *Proxy) EndpointSlice(namespace, name string, s *discoveryv1.EndpointSlice) {
	handOver(p, p.slices, objectName{namespace, name}, s)
}

// Pod hands over the newest state of a pod of this node, nil if it was deleted. Only pods with host ports matter.
func (p *Proxy) Pod(namespace, name string, pod *corev1.Pod) {
	if pod != nil && !hasHostPorts(pod) {
		pod = nil
	}
	handOver(p, p.pods, objectName{namespace, name}, pod)
}

func handOver[T any](p *Proxy, objects map[objectName]*T, key objectName, object *T) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if object == nil {
		if _, had := objects[key]; !had {
			return
		}
		delete(objects, key)
	} else {
		objects[key] = object
	}
	select {
	case p.changed <- struct{}{}:
	default:
	}
}

func hasHostPorts(pod *corev1.Pod) bool {
	for _, list := range [][]corev1.Container{pod.Spec.Containers, pod.Spec.InitContainers} {
		for _, c := range list {
			if slices.ContainsFunc(c.Ports, func(p corev1.ContainerPort) bool { return p.HostPort != 0 }) {
				return true
			}
		}
	}
	return false
}

// Synced is closed when the rules are in place for the first time.
func (p *Proxy) Synced() <-chan struct{} { return p.synced }

// Run writes the rules, and again after every change, until ctx ends. Call it once, after everything that exists
// was handed over: what was not is taken for gone. The rules stay when it returns, so that services outlive the
// agent; [Proxy.Teardown] removes them.
func (p *Proxy) Run(ctx context.Context) error {
	resync := time.NewTicker(p.opts.ResyncEvery)
	defer resync.Stop()
	retry := retryMin
	for {
		began := time.Now()
		err := p.sync(ctx)
		wait := min(max(gather, 2*time.Since(began)), gatherMax)
		if ctx.Err() != nil {
			return nil
		}
		var again <-chan time.Time
		if err != nil {
			p.opts.Log.Error("proxy: cannot write the rules of services", "error", err, "retry", retry)
			again = time.After(retry)
			retry = min(2*retry, retryMax)
		} else {
			retry = retryMin
			p.syncOnce.Do(func() { close(p.synced) })
		}
		select {
		case <-ctx.Done():
			return nil
		case <-again:
			continue
		case <-resync.C:
			p.written = nil
			continue
		case <-p.changed:
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

// sync makes the table what the objects ask for.
func (p *Proxy) sync(ctx context.Context) error {
	next := p.compute()
	if err := p.write(ctx, next); err != nil {
		p.written = nil
		return err
	}
	before := p.written
	p.written = next
	if !slices.Equal(p.conflicts, next.Conflicts) {
		p.conflicts = next.Conflicts
		for _, c := range next.Conflicts {
			p.opts.Log.Warn("proxy: address and port are wanted twice", "conflict", c)
		}
	}
	if err := cutStaleFlows(staleUDP(before, next)); err != nil {
		p.written = nil
		return err
	}
	return nil
}

func (p *Proxy) compute() *Ruleset {
	p.mu.Lock()
	select { // what changed up to here is in what is read now
	case <-p.changed:
	default:
	}
	services := slices.Collect(maps.Values(p.services))
	ends := slices.Collect(maps.Values(p.slices))
	pods := slices.Collect(maps.Values(p.pods))
	p.mu.Unlock()
	return Compute(p.opts.Config, services, ends, pods)
}

// write brings the table from p.written to next, or whatever it holds to next if that is not known.
func (p *Proxy) write(ctx context.Context, next *Ruleset) error {
	if p.written != nil {
		tx := p.nft.NewTransaction()
		difference(tx, p.written, next, present{})
		if tx.NumOperations() == 0 {
			return nil
		}
		err := p.nft.Run(ctx, tx)
		if err == nil || ctx.Err() != nil {
			return err
		}
		p.opts.Log.Warn("proxy: the table is not what was written to it: writing it anew", "error", err)
	}
	if err := p.ensureRoute(); err != nil {
		return err
	}
	return p.writeAll(ctx, next)
}

// writeAll writes everything over whatever the table holds. If that does not fit, as when a version before us gave
// a set another type, the table is replaced; open connections do not suffer, but clients lose their affinity.
func (p *Proxy) writeAll(ctx context.Context, next *Ruleset) error {
	tx := p.nft.NewTransaction()
	tx.Add(&knftables.Table{}) // so that there is something to list
	if err := p.nft.Run(ctx, tx); err != nil {
		return fmt.Errorf("proxy: add nftables table %s: %w", p.opts.Table, err)
	}
	names, err := p.nft.ListAll(ctx)
	if err != nil {
		return fmt.Errorf("proxy: list nftables table %s: %w", p.opts.Table, err)
	}
	have := present{chains: names["chain"], sets: names["set"], maps: names["map"]}
	tx = p.nft.NewTransaction()
	difference(tx, nil, next, have)
	if err = p.nft.Run(ctx, tx); err == nil || ctx.Err() != nil {
		return err
	}
	tx = p.nft.NewTransaction()
	tx.Add(&knftables.Table{})
	tx.Delete(&knftables.Table{})
	difference(tx, nil, next, present{})
	if second := p.nft.Run(ctx, tx); second != nil {
		return fmt.Errorf("proxy: write nftables table %s: %w", p.opts.Table, errors.Join(err, second))
	}
	return nil
}

// ensureRoute adds the route of Options.ServiceCIDR.
func (p *Proxy) ensureRoute() error {
	if p.opts.Bridge == "" || !p.opts.ServiceCIDR.IsValid() {
		return nil
	}
	link, err := netlink.LinkByName(p.opts.Bridge)
	if err != nil {
		return fmt.Errorf("proxy: Bridge %s: %w", p.opts.Bridge, err)
	}
	cidr := p.opts.ServiceCIDR.Masked()
	err = netlink.RouteReplace(&netlink.Route{
		LinkIndex: link.Attrs().Index,
		Dst:       &net.IPNet{IP: cidr.Addr().AsSlice(), Mask: net.CIDRMask(cidr.Bits(), cidr.Addr().BitLen())},
	})
	if err != nil {
		return fmt.Errorf("proxy: route to ServiceCIDR %s through %s: %w", cidr, p.opts.Bridge, err)
	}
	return nil
}

// Teardown removes the table; the route goes with the bridge. Run must have returned.
func (p *Proxy) Teardown(ctx context.Context) error {
	tx := p.nft.NewTransaction()
	tx.Add(&knftables.Table{})
	tx.Delete(&knftables.Table{})
	if err := p.nft.Run(ctx, tx); err != nil {
		return fmt.Errorf("proxy: remove nftables table %s: %w", p.opts.Table, err)
	}
	p.written = nil
	return nil
}
