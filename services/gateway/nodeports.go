package gateway

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/projections"
)

// claimFor is how long a port that was handed out counts as taken while no Service shows it yet: longer than
// a request may take.
const claimFor = 2 * time.Minute

// nodePorts is the allocator of node ports. Upstream keeps a bitmap beside the Services, and repair loops
// for when they differ; here the Services are the state, and only ports of requests in flight are
// remembered. It implements upstream's allocator.Interface; numbers are offsets into the range.
type nodePorts struct {
	base, size int
	// reserved offsets at the start are handed out last, so that people can pick ports there by hand.
	reserved int
	services func() (servicePorts, error)
	position func() events.Sequence
	now      func() time.Time

	mu     sync.Mutex
	at     events.Sequence
	fresh  bool
	used   servicePorts
	claims map[int]time.Time
}

// servicePorts is the set of node ports that Services hold.
type servicePorts map[int]bool

func newNodePorts(store *projections.Store, base, size, reserved int) *nodePorts {
	return &nodePorts{base: base, size: size, reserved: reserved, now: time.Now, claims: map[int]time.Time{},
		position: store.Position, services: func() (servicePorts, error) { return portsIn(store) }}
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
		if !bytes.Contains(state.Object, []byte(`odePort":`)) { // nodePort, healthCheckNodePort: few have them
			continue
		}
		var service struct {
			Spec corev1.ServiceSpec `json:"spec"`
		}
		if err := json.Unmarshal(state.Object, &service); err != nil {
			return nil, fmt.Errorf("node ports: service %s: %w", state.Key, err)
		}
		for _, p := range service.Spec.Ports {
			used[int(p.NodePort)] = true
		}
		used[int(service.Spec.HealthCheckNodePort)] = true
	}
	delete(used, 0)
	return used, nil
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
	_, claimed := n.claims[offset]
	return claimed || n.used[n.base+offset]
}

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
	n.claims[offset] = n.now().Add(claimFor)
	return true, nil
}

// AllocateNext claims any free offset, from the upper part of the range while that lasts; false where the
// range is full.
func (n *nodePorts) AllocateNext() (int, bool, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.refresh(); err != nil {
		return 0, false, err
	}
	for _, part := range [][2]int{{n.reserved, n.size}, {0, n.reserved}} {
		width := part[1] - part[0]
		if width <= 0 {
			continue
		}
		for i, start := 0, rand.IntN(width); i < width; i++ {
			offset := part[0] + (start+i)%width
			if !n.taken(offset) {
				n.claims[offset] = n.now().Add(claimFor)
				return offset, true, nil
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
	return nil
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
