package nodeagent

import (
	"cmp"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/pflag"

	"github.com/orlog-io/orlog/cli/settings"
	"github.com/orlog-io/orlog/node/agent"
	"github.com/orlog-io/orlog/node/image"
)

// AddFlags declares the settings that are an agent's alone. Read needs node-name, service-cidr and
// cluster-domain too, which the caller declares in its own words.
func AddFlags(f *pflag.FlagSet) {
	f.String("bin-dir", "", "folder of runc, orlog-shim and cni/ (default: where this program is)")
	f.String("pod-cidr", "10.244.0.0/24", "where this node's pods get their addresses")
	f.String("cluster-cidr", "10.244.0.0/16", "where the pods of all nodes get theirs")
	f.String("cluster-dns", "10.96.0.10", "address at which pods reach DNS; empty: pods use the node's resolvers")
	f.String("node-ip", "", "this node's address (default: that of the default route)")
	f.String("bridge", "orlog0", "name of the pods' bridge, at most 15 bytes")
	f.String("nft-table", "orlog", "what the names of the nftables tables begin with")
	f.String("cgroup-root", "/orlog", "cgroup that holds all pods")
	f.StringSlice("plain-http", nil, "registries (host:port) to reach without TLS, besides those on loopback")
	f.StringSlice("registry-mirror", nil, "REGISTRY=MIRROR: where to look for images before the registry itself; http://MIRROR for one without TLS")
	f.Bool("seccomp-default", false, "confine containers that ask for no seccomp profile by RuntimeDefault")
	addGarbageFlags(f)
}

// Read makes an agent's options from the settings. Errors name the setting.
func Read(s *settings.Settings, dataDir string, logger *slog.Logger) (o agent.Options, err error) {
	o = agent.Options{
		NodeName: s.String("node-name"), PodCIDR: s.String("pod-cidr"), ClusterCIDR: s.String("cluster-cidr"), ServiceCIDR: s.String("service-cidr"),
		ClusterDNS: s.String("cluster-dns"), ClusterDomain: s.String("cluster-domain"), Bridge: s.String("bridge"), Table: s.String("nft-table"),
		CgroupRoot: s.String("cgroup-root"), PlainHTTP: s.Strings("plain-http"), SeccompDefault: s.Bool("seccomp-default"), Logger: logger,
	}
	if o.NodeName, err = NodeName(s); err != nil {
		return o, err
	}
	self, err := os.Executable()
	if err != nil {
		return o, fmt.Errorf("bin-dir: %w", err)
	}
	if o.DataDir, err = filepath.Abs(dataDir); err != nil {
		return o, fmt.Errorf("data-dir: %w", err)
	}
	if o.BinDir, err = filepath.Abs(cmp.Or(s.String("bin-dir"), filepath.Dir(self))); err != nil {
		return o, fmt.Errorf("bin-dir: %w", err)
	}
	if o.Mirrors, err = image.ParseMirrors(s.Strings("registry-mirror")); err != nil {
		return o, fmt.Errorf("registry-mirror: %w", err)
	}
	if err := readGarbage(s, &o); err != nil {
		return o, err
	}
	for _, name := range []string{"pod-cidr", "cluster-cidr", "service-cidr"} {
		if _, err := netip.ParsePrefix(s.String(name)); err != nil {
			return o, fmt.Errorf("%s: %w", name, err)
		}
	}
	for _, name := range []string{"cluster-dns", "node-ip"} {
		if ip := s.String(name); ip != "" {
			if _, err := netip.ParseAddr(ip); err != nil {
				return o, fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	if ip := s.String("node-ip"); ip != "" {
		o.NodeIPs = []string{ip}
	}
	if !strings.HasPrefix(o.CgroupRoot, "/") || o.CgroupRoot == "/" {
		return o, fmt.Errorf("cgroup-root %q: want an absolute path below the root, such as /orlog", o.CgroupRoot)
	}
	return o, nil
}

// NodeName is the setting node-name or, where that is empty, the host's name in lower case, as names of
// Kubernetes objects are.
func NodeName(s *settings.Settings) (string, error) {
	if name := s.String("node-name"); name != "" {
		return name, nil
	}
	host, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("node-name: %w", err)
	}
	return strings.ToLower(host), nil
}
