package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/projections"
)

// claimFor is how long a port that was handed out counts as taken while no Service shows it yet: longer than
// a request may take (a minute), by as much as the clocks of gateways may differ.
const claimFor = 2 * time.Minute

// nodePorts is the allocator of node ports. Upstream keeps a bitmap beside the Services, and repair loops
// for when they differ; here the Services are the state, and only ports of requests in flight are
// remembered: by this gateway, and in claims that all gateways see. It implements upstream's
// allocator.Interface; numbers are offsets into the range.
type nodePorts struct {
	base, size int
	// reserved offsets at the start are handed out last, so that people can pick ports there by hand.
	reserved int
	services func() (servicePorts, error)
	position func() events.Sequence
	// catchUp returns once services gives everything that was on the log when it was called.
	catchUp func(context.Context) error
	others  portClaims
	now     func() time.Time

	mu     sync.Mutex
	at     events.Sequence
	fresh  bool
	used   servicePorts
	claims map[int]time.Time // by offset, until when: this gateway's own
}

// servicePorts is the set of node ports that Services hold.
type servicePorts map[int]bool

func newNodePorts(s *settings, size, reserved int) *nodePorts {
	return &nodePorts{base: s.nodePorts.Base, size: size, reserved: reserved, now: time.Now, claims: map[int]time.Time{},
		position: s.Store.Position, services: func() (servicePorts, error) { return portsIn(s.Store) },
		catchUp: func(ctx context.Context) error {
			last, err := s.Log.Last(ctx)
			if err != nil {
				return err
			}
			return s.Store.WaitFor(ctx, last)
		},
		others: newPortClaims(s.Volatile, time.Now)}
}

// run gives the claims of ports back that Services have come to hold, until ctx ends. A claim that is not given
// back, as the gateway died, ends by itself: see claimFor.
func (n *nodePorts) run(ctx context.Context, store *projections.Store, logger *slog.Logger) error {
	changes := store.Watch(store.Position(), projections.Selector{Resource: "services"})
	defer changes.Close()
	for {
		batch, err := changes.Next(ctx)
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, events.ErrClosed) {
				return nil
			}
			return fmt.Errorf("node ports: %w", err)
		}
		// What each change shows counts, not what is there by now: the Service may be gone again.
		shown := servicePorts{}
		for _, c := range batch {
			if err := shown.add(c.Next); err != nil {
				return err
			}
		}
		if err := n.settle(ctx, shown); err != nil && ctx.Err() == nil {
			// Those claims are given back with the next, or end by themselves.
			logger.Warn("gateway: giving back claims of node ports", "error", err)
		}
	}
}

// settle gives back the claims of ports that Services have come to hold.
func (n *nodePorts) settle(ctx context.Context, shown servicePorts) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	for port := range shown {
		delete(n.claims, port-n.base)
	}
	return n.others.giveBack(ctx, func(port int) bool { return shown[port] })
}

// portsIn reads the node ports of all living Services.
func portsIn(store *projections.Store) (servicePorts, error) {
	view := store.Now()
	defer view.Close()
	used := servicePorts{}
	for state, err := range view.List(projections.Selector{Resource: "services"}, "") {
		if err != nil {
			return nil, fmt.Errorf("node ports: reading services: %w", err)
		}
		if err := used.add(state); err != nil {
			return nil, err
		}
	}
	return used, nil
}

// add adds the ports of one Service.
func (u servicePorts) add(state events.State) error {
	if !bytes.Contains(state.Object, []byte(`odePort":`)) { // nodePort, healthCheckNodePort: few have them
		return nil
	}
	var service struct {
		Spec corev1.ServiceSpec `json:"spec"`
	}
	if err := json.Unmarshal(state.Object, &service); err != nil {
		return fmt.Errorf("node ports: service %s: %w", state.Key, err)
	}
	for _, p := range service.Spec.Ports {
		u[int(p.NodePort)] = true
	}
	u[int(service.Spec.HealthCheckNodePort)] = true
	delete(u, 0)
	return nil
}

// refresh brings used up to date where the log has moved. The caller holds mu.
func (n *nodePorts) refresh() error {
	at := n.position()
	if n.fresh && at == n.at {
		return nil
	}
	used, err := n.services()
	if err != nil {
		return err
	}
	n.used, n.at, n.fresh = used, at, true
	for offset, until := range n.claims {
		if used[n.base+offset] || n.now().After(until) {
			delete(n.claims, offset)
		}
	}
	return nil
}

func (n *nodePorts) taken(offset int) bool {
	until, claimed := n.claims[offset]
	return claimed && n.now().Before(until) || n.used[n.base+offset]
}

// allocateLimit bounds what one allocation waits for the log.
const allocateLimit = 10 * time.Second

// Allocate claims one offset; false where it is taken.
func (n *nodePorts) Allocate(offset int) (bool, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if offset < 0 || offset >= n.size {
		return false, fmt.Errorf("node ports: %d is out of the range %d-%d", n.base+offset, n.base, n.base+n.size-1)
	}
	if err := n.refresh(); err != nil {
		return false, err
	}
	if n.taken(offset) {
		return false, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), allocateLimit) // upstream gives no context
	defer cancel()
	return n.claim(ctx, offset)
}

// claim takes an offset that seems free; false where another gateway was quicker. First comes the claim, which
// one gateway alone can win, and then a look at everything that was on the log by then: a Service that another
// gateway wrote under an earlier claim is seen.
func (n *nodePorts) claim(ctx context.Context, offset int) (bool, error) {
	port := n.base + offset
	until, won, err := n.others.take(ctx, port)
	if err != nil {
		return false, fmt.Errorf("node ports: claiming %d: %w", port, err)
	}
	if !won {
		return false, nil
	}
	n.claims[offset] = until
	if err = n.catchUp(ctx); err == nil {
		err = n.refresh()
	}
	if err == nil && !n.used[port] {
		return true, nil
	}
	delete(n.claims, offset)
	if back := n.others.giveBack(ctx, func(p int) bool { return p == port }); back != nil || err != nil {
		return false, fmt.Errorf("node ports: looking whether %d is free: %w", port, errors.Join(err, back))
	}
	return false, nil
}

// AllocateNext claims any free offset, from the upper part of the range while that lasts; false where the
// range is full.
func (n *nodePorts) AllocateNext() (int, bool, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.refresh(); err != nil {
		return 0, false, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), allocateLimit)
	defer cancel()
	for _, part := range [][2]int{{n.reserved, n.size}, {0, n.reserved}} {
		width := part[1] - part[0]
		if width <= 0 {
			continue
		}
		for i, start := 0, rand.IntN(width); i < width; i++ {
			offset := part[0] + (start+i)%width
			if n.taken(offset) {
				continue
			}
			if won, err := n.claim(ctx, offset); won || err != nil {
				return offset, won, err
			}
		}
	}
	return 0, false, nil
}

// Release forgets the claim on an offset. A port that a Service holds is free when the Service lets go of it.
func (n *nodePorts) Release(offset int) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.claims, offset)
	ctx, cancel := context.WithTimeout(context.Background(), allocateLimit)
	defer cancel()
	return n.others.giveBack(ctx, func(port int) bool { return port == n.base+offset })
}

// ForEach calls f for every taken offset.
func (n *nodePorts) ForEach(f func(int)) {
	n.mu.Lock()
	var all []int
	for offset := range n.size {
		if n.taken(offset) {
			all = append(all, offset)
		}
	}
	n.mu.Unlock()
	for _, offset := range all {
		f(offset)
	}
}

// Has reports whether an offset is taken.
func (n *nodePorts) Has(offset int) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.refresh(); err != nil {
		return true // unknown: rather refuse a port than hand it out twice
	}
	return n.taken(offset)
}

// Free is how many offsets are left, as of the last allocation.
func (n *nodePorts) Free() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	free := 0
	for offset := range n.size {
		if !n.taken(offset) {
			free++
		}
	}
	return free
}

// Destroy implements allocator.Interface; there is nothing to free.
func (n *nodePorts) Destroy() {}
