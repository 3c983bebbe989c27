package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"

	"golang.org/x/sync/errgroup"
	v1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/node/proxy"
	"github.com/orlog-io/orlog/projections"
)

// interesting tells which objects a node's projection keeps.
func interesting(key events.Key) bool {
	switch key.GroupResource() {
	case "pods", "configmaps", "secrets", "services", "endpointslices.discovery.k8s.io", "nodes", "namespaces":
		return true
	}
	return false
}

func (a *Agent) openProxy() (*proxy.Proxy, error) {
	options, err := proxyOptions(a.o)
	if err != nil {
		return nil, err
	}
	return proxy.New(options)
}

// runProxy feeds the service proxy from the projection. It begins when that has caught up: until then the rules of
// before stay.
func (a *Agent) runProxy(ctx context.Context, p *proxy.Proxy) error {
	select {
	case <-ctx.Done():
		return nil
	case <-a.caughtUp:
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, sel := range []projections.Selector{{Resource: "services"}, {Group: "discovery.k8s.io", Resource: "endpointslices"}, {Resource: "pods"}} {
		handed := make(chan struct{})
		g.Go(func() error { return a.feed(ctx, sel, p, handed) })
		select {
		case <-handed:
		case <-ctx.Done():
		}
	}
	g.Go(func() error { return p.Run(ctx) })
	return g.Wait()
}

// feed hands over all selected objects, closes handed, and hands over what changes until ctx ends.
func (a *Agent) feed(ctx context.Context, sel projections.Selector, p *proxy.Proxy, handed chan struct{}) error {
	known := map[events.Key]bool{}
	for ctx.Err() == nil {
		w := a.o.Store.Watch(a.o.Store.Position(), sel)
		err := a.handAll(sel, p, known)
		if handed != nil {
			close(handed)
			handed = nil
		}
		for err == nil {
			var changes []projections.Change
			changes, err = w.Next(ctx)
			for i := 0; i < len(changes) && err == nil; i++ {
				known[changes[i].Next.Key] = changes[i].Next.Exists()
				err = a.handOver(p, changes[i].Next)
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
func (a *Agent) handAll(sel projections.Selector, p *proxy.Proxy, known map[events.Key]bool) error {
	v := a.o.Store.Now()
	defer v.Close()
	now := map[events.Key]bool{}
	for s, err := range v.List(sel, "") {
		if err != nil {
			return err
		}
		now[s.Key] = true
		if err := a.handOver(p, s); err != nil {
			return err
		}
	}
	for key := range known {
		if !now[key] {
			if err := a.handOver(p, events.State{Key: key}); err != nil {
				return err
			}
		}
	}
	clear(known)
	maps.Copy(known, now)
	return nil
}

// handOver tells the proxy of one object.
func (a *Agent) handOver(p *proxy.Proxy, s events.State) error {
	switch s.Key.Resource {
	case "services":
		svc, err := living[v1.Service](s)
		if err != nil {
			return err
		}
		p.Service(s.Key.Namespace, s.Key.Name, svc)
	case "endpointslices":
		slice, err := living[discoveryv1.EndpointSlice](s)
		if err != nil {
			return err
		}
		p.EndpointSlice(s.Key.Namespace, s.Key.Name, slice)
	case "pods":
		pod, err := living[v1.Pod](s)
		if err != nil {
			return err
		}
		if pod != nil && pod.Spec.NodeName != a.o.NodeName {
			pod = nil
		}
		p.Pod(s.Key.Namespace, s.Key.Name, pod)
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
