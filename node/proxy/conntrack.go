package proxy

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The kernel decides where a flow goes by its first packet. A TCP connection to an endpoint that is gone is reset
// and made anew, but a UDP client that keeps its port keeps feeding the old flow for ever. So after a change of UDP
// endpoints the flows that go where they should not are deleted.

// staleUDP returns the frontends whose flows have to be looked at after the rules changed from prev to next, with
// the endpoints that are still right: none for a frontend that is gone. A nil prev means all of them.
func staleUDP(prev, next *Ruleset) map[frontend][]netip.AddrPort {
	out := map[frontend][]netip.AddrPort{}
	for w, ends := range next.udp {
		if prev == nil {
			out[w] = ends
		} else if old, had := prev.udp[w]; !had || !slices.Equal(old, ends) {
			out[w] = ends
		}
	}
	if prev != nil {
		for w := range prev.udp {
			if _, still := next.udp[w]; !still {
				out[w] = nil
			}
		}
	}
	return out
}

// staleFlows matches the flows to be deleted.
type staleFlows map[frontend][]netip.AddrPort

// MatchConntrackFlow implements netlink.CustomConntrackFilter.
func (s staleFlows) MatchConntrackFlow(flow *netlink.ConntrackFlow) bool {
	if flow.Forward.Protocol != unix.IPPROTO_UDP {
		return false
	}
	to, ok1 := netip.AddrFromSlice(flow.Forward.DstIP)
	by, ok2 := netip.AddrFromSlice(flow.Reverse.SrcIP)
	if !ok1 || !ok2 {
		return false
	}
	to, by = to.Unmap(), by.Unmap()
	rewritten := to != by || flow.Forward.DstPort != flow.Reverse.SrcPort
	ends, served := s[frontend{to, flow.Forward.DstPort}]
	if !served {
		// Only a rewritten flow tells a node port from the same number elsewhere.
		if ends, served = s[frontend{port: flow.Forward.DstPort}]; !served || !rewritten {
			return false
		}
	}
	if !rewritten {
		return len(ends) > 0 // it began before there was an endpoint
	}
	return !slices.Contains(ends, netip.AddrPortFrom(by, flow.Reverse.SrcPort))
}

// cutStaleFlows deletes the flows of frontends that do not go to one of the endpoints given.
func cutStaleFlows(stale map[frontend][]netip.AddrPort) error {
	if len(stale) == 0 {
		return nil
	}
	_, err := netlink.ConntrackDeleteFilters(netlink.ConntrackTable, unix.AF_INET, staleFlows(stale))
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return fmt.Errorf("proxy: delete stale UDP flows: %w", err)
	}
	return nil
}
