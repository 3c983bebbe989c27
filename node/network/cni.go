package network

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/containernetworking/cni/libcni"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/vishvananda/netlink"
)

const (
	cniVersion = "1.0.0"
	podLink    = "eth0"
)

// conflist is the CNI configuration of the pod network: the bridge plugin with host-local addresses. Masquerading
// is not the plugin's: one rule for all pods (see ensureTable) instead of a process and a rule for each.
func (o Options) conflist() ([]byte, error) {
	type object = map[string]any
	return json.MarshalIndent(object{
		"cniVersion": cniVersion,
		"name":       o.Bridge,
		"plugins": []object{{
			"type":             "bridge",
			"bridge":           o.Bridge,
			"isGateway":        true,
			"isDefaultGateway": true,
			"hairpinMode":      true,
			"ipMasq":           false,
			"mtu":              o.MTU,
			"ipam": object{
				"type":    "host-local",
				"dataDir": filepath.Join(o.Dir, "ipam"),
				"ranges":  [][]object{{{"subnet": o.PodCIDR, "gateway": o.gateway()}}},
			},
		}},
	}, "", "  ")
}

// openCNI writes the configuration and loads it the way any CNI runtime would.
func (m *Manager) openCNI() error {
	data, err := m.opts.conflist()
	if err != nil {
		return fmt.Errorf("network: CNI configuration: %w", err)
	}
	path := filepath.Join(m.opts.Dir, "orlog.conflist")
	if err := os.WriteFile(path+".tmp", data, 0o600); err != nil {
		return fmt.Errorf("network: CNI configuration: %w", err)
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		return fmt.Errorf("network: CNI configuration: %w", err)
	}
	if m.conf, err = libcni.ConfListFromFile(path); err != nil {
		return fmt.Errorf("network: CNI configuration %s: %w", path, err)
	}
	m.cni = libcni.NewCNIConfigWithCacheDir([]string{m.opts.PluginDir}, filepath.Join(m.opts.Dir, "cache"), nil)
	return nil
}

// attach runs the plugins for a sandbox whose namespace exists and fills in its addresses.
func (m *Manager) attach(ctx context.Context, r *record) error {
	netns := m.netnsPath(r.ID)
	res, err := m.cni.AddNetworkList(ctx, m.conf, &libcni.RuntimeConf{ContainerID: r.ID, NetNS: netns, IfName: podLink})
	if err != nil {
		return fmt.Errorf("network: CNI ADD: %w", err)
	}
	result, err := current.NewResultFromResult(res)
	if err != nil {
		return fmt.Errorf("network: CNI result: %w", err)
	}
	r.IPs = r.IPs[:0]
	for _, ip := range result.IPs {
		addr, ok := netip.AddrFromSlice(ip.Address.IP)
		if !ok {
			return fmt.Errorf("network: CNI result: address %q", ip.Address.IP)
		}
		r.IPs = append(r.IPs, addr.Unmap())
	}
	if len(r.IPs) == 0 {
		return errors.New("network: CNI result: no address")
	}
	for _, i := range result.Interfaces {
		if i.Name == podLink && i.Sandbox != "" {
			r.MAC = i.Mac
		}
	}
	return inNetNS(netns, m.routeThroughHost)
}

// routeThroughHost makes the gateway the only neighbour of eth0, in the calling thread's namespace: doc.go says why.
func (m *Manager) routeThroughHost() error {
	link, err := netlink.LinkByName(podLink)
	if err != nil {
		return fmt.Errorf("network: %s of the pod: %w", podLink, err)
	}
	gateway := &net.IPNet{IP: m.opts.gateway().AsSlice(), Mask: net.CIDRMask(32, 32)}
	err = netlink.RouteReplace(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: gateway, Scope: netlink.SCOPE_LINK})
	if err != nil {
		return fmt.Errorf("network: route to the gateway: %w", err)
	}
	routes, err := netlink.RouteList(link, netlink.FAMILY_V4)
	if err != nil {
		return fmt.Errorf("network: routes of the pod: %w", err)
	}
	for _, r := range routes {
		if r.Dst != nil && r.Gw == nil && r.Dst.String() == m.opts.PodCIDR.String() {
			if err := netlink.RouteDel(&r); err != nil {
				return fmt.Errorf("network: remove connected route %s: %w", r.Dst, err)
			}
		}
	}
	return nil
}

// detach releases what attach, or a part of it, took. Without a namespace only the address is left to release.
func (m *Manager) detach(ctx context.Context, id string) error {
	netns := m.netnsPath(id)
	if !pinned(netns) {
		netns = ""
	}
	err := m.cni.DelNetworkList(ctx, m.conf, &libcni.RuntimeConf{ContainerID: id, NetNS: netns, IfName: podLink})
	if err != nil {
		return fmt.Errorf("network: CNI DEL: %w", err)
	}
	return nil
}

// reservations lists the sandbox IDs that hold an address, as host-local keeps them: one file an address, whose
// first line is the ID.
func (m *Manager) reservations() ([]string, error) {
	dir := filepath.Join(m.opts.Dir, "ipam", m.conf.Name)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("network: address reservations: %w", err)
	}
	var ids []string
	for _, e := range entries {
		if _, err := netip.ParseAddr(e.Name()); err != nil {
			continue // the lock and the cursor live beside the addresses
		}
		path := filepath.Join(dir, e.Name())
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("network: address reservation: %w", err)
		}
		id, _, _ := strings.Cut(string(data), "\r\n")
		if id = strings.TrimSpace(id); id == "" {
			// Cut off by a power loss between creating and writing it: nobody's.
			if err := os.Remove(path); err != nil {
				return nil, fmt.Errorf("network: address reservation: %w", err)
			}
			continue
		}
		ids = append(ids, id)
	}
	return ids, nil
}
