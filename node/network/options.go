package network

import (
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
)

// Options say where the manager keeps its state and which part of the network is its own.
type Options struct {
	// Dir holds records, pinned namespaces, address reservations and the CNI configuration. One manager at a time.
	Dir string
	// PluginDir holds the CNI plugin binaries "bridge" and "host-local".
	PluginDir string
	// PodCIDR is this node's share of pod addresses (IPv4). Its first address is the gateway, on the bridge.
	PodCIDR netip.Prefix
	// ClusterCIDR covers the pods of all nodes: traffic into it keeps the pod's own address. Default PodCIDR.
	ClusterCIDR netip.Prefix
	// Bridge is the name of the bridge, at most 15 bytes. Default "orlog0".
	Bridge string
	// Table is the name of the manager's nftables table. Default Bridge + "-pods".
	Table string
	// MTU of the pods' links. 0: that of the interface of the default route.
	MTU int
	// Pool is how many sandboxes Run keeps ready. 0: none.
	Pool int
	// Leaving: the manager is opened only to be destroyed. The host is left as it is, whatever it was prepared for.
	Leaving bool
	// Log receives what happens in the background. Default slog.Default().
	Log *slog.Logger
}

// linkName is what the kernel and nft both take as an interface name without quoting.
var linkName = regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9_.-]{0,14}$`)

// complete fills defaults and rejects what cannot work.
func (o Options) complete() (Options, error) {
	if !filepath.IsAbs(o.Dir) {
		return o, fmt.Errorf("network: Dir %q: must be an absolute path", o.Dir)
	}
	if o.Bridge == "" {
		o.Bridge = "orlog0"
	}
	if !linkName.MatchString(o.Bridge) {
		return o, fmt.Errorf("network: Bridge %q: must match %s", o.Bridge, linkName)
	}
	if o.Table == "" {
		o.Table = o.Bridge + "-pods"
	}
	if !o.PodCIDR.IsValid() || !o.PodCIDR.Addr().Is4() || o.PodCIDR.Bits() > 30 {
		return o, fmt.Errorf("network: PodCIDR %q: must be an IPv4 network of at least four addresses", o.PodCIDR)
	}
	o.PodCIDR = o.PodCIDR.Masked()
	if !o.ClusterCIDR.IsValid() {
		o.ClusterCIDR = o.PodCIDR
	}
	o.ClusterCIDR = o.ClusterCIDR.Masked()
	if !o.ClusterCIDR.Overlaps(o.PodCIDR) || o.ClusterCIDR.Bits() > o.PodCIDR.Bits() {
		return o, fmt.Errorf("network: ClusterCIDR %s: must contain PodCIDR %s", o.ClusterCIDR, o.PodCIDR)
	}
	for _, plugin := range []string{"bridge", "host-local"} {
		if _, err := os.Stat(filepath.Join(o.PluginDir, plugin)); err != nil {
			return o, fmt.Errorf("network: PluginDir: CNI plugin %s: %w", plugin, err)
		}
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	return o, nil
}

// gateway is the bridge's own address: the first of the pod network.
func (o Options) gateway() netip.Addr { return o.PodCIDR.Addr().Next() }
