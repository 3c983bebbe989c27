package network

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"sigs.k8s.io/knftables"
)

// hostSysctls are what the host's IP layer needs so that pods reach each other, the host and the world.
// "BRIDGE" stands for its name.
//
// route_localnet lets an answer to 127.0.0.1:<hostPort or nodePort> come back through the bridge; the raw chain
// below keeps pods from using it the other way round, to reach what listens on the host's loopback.
//
// Packets between pods leave by the link they came in on, which the kernel answers with ICMP redirects unless both
// switches are off. Pods ignore them, but they use up the rate limit of the errors that refuse a connection.
var hostSysctls = [][2]string{
	{"net/ipv4/ip_forward", "1"},
	{"net/ipv4/conf/BRIDGE/route_localnet", "1"},
	{"net/ipv4/conf/all/send_redirects", "0"},
	{"net/ipv4/conf/BRIDGE/send_redirects", "0"},
	{"net/ipv4/conf/BRIDGE/rp_filter", "2"},
	{"net/ipv6/conf/BRIDGE/accept_ra", "0"},
}

// ensureHost brings bridge, sysctls and nftables table into the wanted state. Idempotent.
func (m *Manager) ensureHost(ctx context.Context) error {
	if err := m.ensureBridge(); err != nil {
		return err
	}
	for _, s := range hostSysctls {
		name := strings.Replace(s[0], "BRIDGE", m.opts.Bridge, 1)
		err := setSysctl(name, s[1])
		if errors.Is(err, fs.ErrNotExist) && strings.HasPrefix(name, "net/ipv6/") {
			continue // a host without IPv6 needs no protection from its router advertisements
		}
		if err != nil {
			return err
		}
	}
	return m.ensureTable(ctx)
}

// ensureBridge makes the bridge ahead of the first pod, so that the gateway address can be listened on, and with a
// hardware address of its own: a bridge without one takes that of whichever port is lowest, and pods would lose
// their gateway whenever it changed.
func (m *Manager) ensureBridge() error {
	o := m.opts
	attrs := netlink.NewLinkAttrs()
	attrs.Name = o.Bridge
	attrs.MTU = o.MTU
	gw := o.gateway().As4()
	attrs.HardwareAddr = net.HardwareAddr{0x0a, 0x58, gw[0], gw[1], gw[2], gw[3]}
	if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("network: create bridge %s: %w", o.Bridge, err)
	}
	link, err := netlink.LinkByName(o.Bridge)
	if err != nil {
		return fmt.Errorf("network: bridge %s: %w", o.Bridge, err)
	}
	if _, ok := link.(*netlink.Bridge); !ok {
		return fmt.Errorf("network: Bridge %s: exists and is a %s, choose another name", o.Bridge, link.Type())
	}
	want := netip.PrefixFrom(o.gateway(), o.PodCIDR.Bits())
	if err := m.ensureAddress(link, want); err != nil {
		return err
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("network: bridge %s up: %w", o.Bridge, err)
	}
	return nil
}

// ensureAddress gives the bridge its address and refuses a bridge that serves another network.
func (m *Manager) ensureAddress(link netlink.Link, want netip.Prefix) error {
	addrs, err := netlink.AddrList(link, netlink.FAMILY_V4)
	if err != nil {
		return fmt.Errorf("network: addresses of bridge %s: %w", m.opts.Bridge, err)
	}
	for _, a := range addrs {
		if a.IPNet.String() == want.String() {
			return nil
		}
	}
	for _, a := range addrs {
		if ones, bits := a.Mask.Size(); ones == bits {
			continue // a single address that something else on this node has put there, such as the DNS server's
		}
		return fmt.Errorf("network: bridge %s has address %s where PodCIDR %s asks for %s: remove the bridge or mend PodCIDR",
			m.opts.Bridge, a.IPNet, m.opts.PodCIDR, want)
	}
	ipnet := net.IPNet{IP: want.Addr().AsSlice(), Mask: net.CIDRMask(want.Bits(), 32)}
	if err := netlink.AddrAdd(link, &netlink.Addr{IPNet: &ipnet}); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("network: address %s on bridge %s: %w", want, m.opts.Bridge, err)
	}
	return nil
}

// ensureTable writes the table anew in one transaction: pods leave the cluster with the host's address, and
// cannot reach the host's loopback.
func (m *Manager) ensureTable(ctx context.Context) error {
	o := m.opts
	tx := m.nft.NewTransaction()
	tx.Add(&knftables.Table{})
	tx.Delete(&knftables.Table{})
	tx.Add(&knftables.Table{})
	tx.Add(&knftables.Chain{
		Name: "prerouting", Type: knftables.PtrTo(knftables.FilterType),
		Hook: knftables.PtrTo(knftables.PreroutingHook), Priority: knftables.PtrTo(knftables.RawPriority),
	})
	tx.Add(&knftables.Rule{Chain: "prerouting", Rule: knftables.Concat(
		"iifname", o.Bridge, "ip daddr 127.0.0.0/8 drop")})
	tx.Add(&knftables.Chain{
		Name: "postrouting", Type: knftables.PtrTo(knftables.NATType),
		Hook: knftables.PtrTo(knftables.PostroutingHook), Priority: knftables.PtrTo(knftables.SNATPriority),
	})
	tx.Add(&knftables.Rule{Chain: "postrouting", Rule: knftables.Concat(
		"ip saddr", o.PodCIDR, "oifname !=", o.Bridge, "ip daddr !=", o.ClusterCIDR,
		"ip daddr != 224.0.0.0/4 masquerade")})
	if err := m.nft.Run(ctx, tx); err != nil {
		return fmt.Errorf("network: nftables table %s: %w", o.Table, err)
	}
	return nil
}

// removeHost undoes ensureHost, sysctls excepted: others may have come to rely on them.
func (m *Manager) removeHost(ctx context.Context) error {
	var errs []error
	tx := m.nft.NewTransaction()
	tx.Add(&knftables.Table{})
	tx.Delete(&knftables.Table{})
	if err := m.nft.Run(ctx, tx); err != nil {
		errs = append(errs, fmt.Errorf("network: remove nftables table %s: %w", m.opts.Table, err))
	}
	link, err := netlink.LinkByName(m.opts.Bridge)
	if err == nil {
		err = netlink.LinkDel(link)
	}
	if err != nil && !errors.As(err, new(netlink.LinkNotFoundError)) {
		errs = append(errs, fmt.Errorf("network: remove bridge %s: %w", m.opts.Bridge, err))
	}
	return errors.Join(errs...)
}

// defaultMTU is that of the interface of the default route: larger packets of pods would only be cut or dropped
// there. 0, the kernel's own default, where there is no such route.
func defaultMTU() (int, error) {
	routes, err := netlink.RouteList(nil, netlink.FAMILY_V4)
	if err != nil {
		return 0, fmt.Errorf("network: MTU: list routes: %w", err)
	}
	for _, r := range routes {
		if r.Dst != nil && !r.Dst.IP.IsUnspecified() {
			continue
		}
		if link, err := netlink.LinkByIndex(r.LinkIndex); err == nil {
			return link.Attrs().MTU, nil
		}
	}
	return 0, nil
}
