package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"

	"golang.org/x/sync/errgroup"
	v1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/node/dns"
	"github.com/orlog-io/orlog/node/proxy"
	"github.com/orlog-io/orlog/projections"
)

// services makes services reachable on the node: the rules for their addresses, and their names. names is nil where
// the cluster has no DNS address.
type services struct {
	a     *Agent
	rules *proxy.Proxy
	names *dns.Server
}

func (a *Agent) openServices() (*services, error) {
	options, err := proxyOptions(a.o)
	if err != nil {
		return nil, err
	}
	s := &services{a: a}
	if s.rules, err = proxy.New(options); err != nil {
		return nil, err
	}
	if a.o.ClusterDNS == "" {
		return s, nil
	}
	address, err := netip.ParseAddr(a.o.ClusterDNS)
	if err != nil {
		return nil, fmt.Errorf("agent options: ClusterDNS: %w", err)
	}
	s.names, err = dns.New(dns.Options{Listen: []netip.AddrPort{netip.AddrPortFrom(address, 53)}, Link: a.o.Bridge, Domain: a.o.ClusterDomain,
		Networks: []netip.Prefix{options.ClusterCIDR, options.ServiceCIDR}, ResolvConf: a.o.ResolvConf, Log: a.log})
	return s, err
}

// run feeds rules and names from the projection until ctx ends. Names are answered from the first moment. The rules
// are written when the projection has caught up: until then those of before stand.
func (s *services) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, sel := range []projections.Selector{{Resource: "services"}, {Group: "discovery.k8s.io", Resource: "endpointslices"}, {Resource: "pods"}} {
		handed := make(chan struct{})
		g.Go(func() error { return s.feed(ctx, sel, handed) })
		select {
		case <-handed:
		case <-ctx.Done():
		}
	}
	if s.names != nil {
		g.Go(func() error { return s.names.Run(ctx) })
	}
	g.Go(func() error {
		select {
		case <-ctx.Done():
			return nil
		case <-s.a.caughtUp:
			return s.rules.Run(ctx)
		}
	})
	return g.Wait()
}

// feed hands over all selected objects, closes handed, and hands over what changes until ctx ends.
func (s *services) feed(ctx context.Context, sel projections.Selector, handed chan struct{}) error {
	known := map[events.Key]bool{}
	for ctx.Err() == nil {
		w := s.a.o.Store.Watch(s.a.o.Store.Position(), sel)
		err := s.handAll(sel, known)
		if handed != nil {
			close(handed)
			handed = nil
		}
		for err == nil {
			var changes []projections.Change
			changes, err = w.Next(ctx)
			for i := 0; i < len(changes) && err == nil; i++ {
				known[changes[i].Next.Key] = true
				err = s.handOver(changes[i].Next)
			}
		}
		w.Close()
		if ctx.Err() == nil && !errors.Is(err, projections.ErrTooOld) {
			return err
		}
	}
	return nil
}

// handAll hands over the present: what is there, and what was known and is gone.
func (s *services) handAll(sel projections.Selector, known map[events.Key]bool) error {
	v := s.a.o.Store.Now()
	defer v.Close()
	now := map[events.Key]bool{}
	for state, err := range v.List(sel, "") {
		if err != nil {
			return err
		}
		now[state.Key] = true
		if err := s.handOver(state); err != nil {
			return err
		}
	}
	for key := range known {
		if !now[key] {
			if err := s.handOver(events.State{Key: key}); err != nil {
				return err
			}
		}
	}
	clear(known)
	maps.Copy(known, now)
	return nil
}

// handOver passes on one object, nil where it is gone.
func (s *services) handOver(state events.State) error {
	namespace, name := state.Key.Namespace, state.Key.Name
	switch state.Key.Resource {
	case "services":
		svc, err := living[v1.Service](state)
		if err != nil {
			return err
		}
		s.rules.Service(namespace, name, svc)
		if s.names != nil {
			s.names.Service(namespace, name, svc)
		}
	case "endpointslices":
		slice, err := living[discoveryv1.EndpointSlice](state)
		if err != nil {
			return err
		}
		s.rules.EndpointSlice(namespace, name, slice)
		if s.names != nil {
			s.names.EndpointSlice(namespace, name, slice)
		}
	case "pods":
		if state.Node != "" && state.Node != s.a.o.NodeName {
			return nil
		}
		pod, err := living[v1.Pod](state)
		if err != nil {
			return err
		}
		if pod != nil && pod.Spec.NodeName != s.a.o.NodeName {
			pod = nil
		}
		s.rules.Pod(namespace, name, pod)
	}
	return nil
}

// living decodes an object, nil where it is gone.
func living[T any](s events.State) (*T, error) {
	if !s.Exists() {
		return nil, nil
	}
	out := new(T)
	if err := json.Unmarshal(s.Object, out); err != nil {
		return nil, fmt.Errorf("decoding %s: %w", s.Key, err)
	}
	return out, nil
}
