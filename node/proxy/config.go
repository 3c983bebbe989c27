package proxy

import (
	"fmt"
	"log/slog"
	"net/netip"
	"regexp"
	"time"
)

// Options say which part of the host's network is the proxy's.
type Options struct {
	Config
	// Table is the name of the nftables table, of family ip. Default "orlog-proxy".
	Table string
	// ServiceCIDR and Bridge, if both are set, add a route to ServiceCIDR through Bridge: a host without a default
	// route refuses to send to ClusterIPs before the rules see the packet.
	ServiceCIDR netip.Prefix
	Bridge      string
	// ResyncEvery is how often everything is written anew. Default 10 minutes.
	ResyncEvery time.Duration
	// Log receives what goes wrong in the background. Default slog.Default().
	Log *slog.Logger
}

// Config is what the rules depend on besides the cluster's objects.
type Config struct {
	// Node is this node's name: endpoints on it are local.
	Node string
	// ClusterCIDR covers all pods. Invalid (zero): nothing is known to be a pod.
	ClusterCIDR netip.Prefix
	// Mark is the bit of the packet mark that asks for the host's address as the source. Default 0x4000.
	Mark uint32
}

var tableName = regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9_-]{0,63}$`)

func (o Options) complete() (Options, error) {
	if o.Node == "" {
		return o, fmt.Errorf("proxy: Node: is empty")
	}
	if o.Table == "" {
		o.Table = "orlog-proxy"
	}
	if !tableName.MatchString(o.Table) {
		return o, fmt.Errorf("proxy: Table %q: must match %s", o.Table, tableName)
	}
	if o.Mark == 0 {
		o.Mark = 0x4000
	}
	if o.ResyncEvery == 0 {
		o.ResyncEvery = 10 * time.Minute
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	return o, nil
}
