package endpoints

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"

	"github.com/orlog-io/orlog/services/loop"
	"github.com/orlog-io/orlog/services/reconcilers/replica"
)

// plan brings the slices of one address type to what they should be, with as few writes as it can: an
// endpoint stays in its slice, new ones fill the slices that have room, and only then new slices come.
type plan struct {
	v     *loop.View
	s     *corev1.Service
	t     discoveryv1.AddressType
	names *replica.Namer
}

func (p plan) effects(want map[string]*group, have []*discoveryv1.EndpointSlice) []loop.Effect {
	var out []loop.Effect
	used := map[types.UID]bool{}
	for _, key := range slices.Sorted(maps.Keys(want)) {
		g := want[key]
		var mine []*discoveryv1.EndpointSlice
		for _, e := range have {
			if !used[e.UID] && (samePorts(e.Ports, g.ports) || (len(e.Endpoints) == 0 && len(want) == 1)) {
				mine = append(mine, e)
				used[e.UID] = true
			}
		}
		out = append(out, p.group(g, mine)...)
	}
	for _, e := range have {
		if !used[e.UID] {
			out = append(out, loop.EndpointSlices.Delete(e))
		}
	}
	return out
}

// group distributes a group's endpoints over the slices with its ports.
func (p plan) group(g *group, have []*discoveryv1.EndpointSlice) []loop.Effect {
	pending := map[types.UID]discoveryv1.Endpoint{}
	var order []types.UID
	for _, e := range g.endpoints {
		pending[e.TargetRef.UID] = e
		order = append(order, e.TargetRef.UID)
	}
	next := make([]*discoveryv1.EndpointSlice, len(have))
	for i, slice := range have { // first what stays where it is
		next[i] = slice.DeepCopy()
		next[i].Endpoints, next[i].Ports, next[i].Labels = []discoveryv1.Endpoint{}, g.ports, sliceLabels(p.s)
		for _, e := range slice.Endpoints {
			if e.TargetRef == nil {
				continue
			}
			if now, ok := pending[e.TargetRef.UID]; ok && len(next[i].Endpoints) < full {
				next[i].Endpoints = append(next[i].Endpoints, now)
				delete(pending, e.TargetRef.UID)
			}
		}
	}
	created := p.fill(g, &next, order, pending)
	return p.writes(have, next, created)
}

// fill places what is pending; it returns how many slices it had to add.
func (p plan) fill(g *group, next *[]*discoveryv1.EndpointSlice, order []types.UID, pending map[types.UID]discoveryv1.Endpoint) int {
	created, at := 0, 0
	for _, uid := range order {
		e, ok := pending[uid]
		if !ok {
			continue
		}
		for at < len(*next) && len((*next)[at].Endpoints) >= full {
			at++
		}
		if at == len(*next) {
			*next = append(*next, newSlice(p.s, p.t, p.names.Next(), g))
			created++
		}
		(*next)[at].Endpoints = append((*next)[at].Endpoints, e)
	}
	if len(*next) == 0 { // a Service without pods keeps one empty slice
		*next = append(*next, newSlice(p.s, p.t, p.names.Next(), g))
		created++
	}
	return created
}

// writes compares slices with what they were. One empty slice may stay where no other is left.
func (p plan) writes(have, next []*discoveryv1.EndpointSlice, created int) []loop.Effect {
	var out []loop.Effect
	filled := created
	for _, n := range next[:len(have)] {
		if len(n.Endpoints) > 0 {
			filled++
		}
	}
	for i, n := range next[:len(have)] {
		switch {
		case len(n.Endpoints) == 0 && filled > 0:
			out = append(out, loop.EndpointSlices.Delete(have[i]))
		case !equality.Semantic.DeepEqual(have[i], n):
			out = append(out, loop.EndpointSlices.Update(n))
			filled++
		default:
			filled++
		}
	}
	for _, n := range next[len(have):] {
		out = append(out, loop.EndpointSlices.Create(n))
	}
	return out
}
