package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/pflag"

	"github.com/orlog-io/orlog/cli/settings"
	"github.com/orlog-io/orlog/node/agent"
)

type options struct {
	natsURL         string
	natsCredentials string // "": none
	kubeconfig      string
	agent           agent.Options
}

func addFlags(f *pflag.FlagSet) {
	f.String("node-name", "", "name of this node (default: the host name)")
	f.String("data-dir", "/var/lib/orlog/node", "folder of everything that the node keeps; one agent at a time may use it")
	f.String("bin-dir", "", "folder of runc, orlog-shim and cni/ (default: where orlog-agent is)")
	f.String("nats-url", "nats://127.0.0.1:4222", "NATS servers of the log, comma-separated")
	f.String("nats-credentials", "", "file with this node's credentials for the log (default: node.nats beside the kubeconfig, if it exists)")
	f.String("kubeconfig", "/etc/orlog/node.kubeconfig", "how to reach the Kubernetes API as this node")
	f.String("pod-cidr", "10.244.0.0/24", "where this node's pods get their addresses")
	f.String("cluster-cidr", "10.244.0.0/16", "where the pods of all nodes get theirs")
	f.String("service-cidr", "10.96.0.0/16", "where ClusterIPs come from, as orlogd has it")
	f.String("cluster-dns", "10.96.0.10", "address at which pods reach DNS; empty: pods use the node's resolvers")
	f.String("cluster-domain", "cluster.local", "DNS domain of the cluster")
	f.String("node-ip", "", "this node's address (default: that of the default route)")
	f.String("bridge", "orlog0", "name of the pods' bridge, at most 15 bytes")
	f.String("nft-table", "orlog", "what the names of the nftables tables begin with")
	f.String("cgroup-root", "/orlog", "cgroup that holds all pods")
	f.StringSlice("plain-http", nil, "registries (host:port) to reach without TLS, besides those on loopback")
	f.String("log-level", "info", "debug, info, warn or error")
	f.String("log-format", "text", "text or json")
}

func readOptions(s *settings.Settings, logger *slog.Logger) (o options, err error) {
	o = options{natsURL: s.String("nats-url"), kubeconfig: s.String("kubeconfig"), agent: agent.Options{
		NodeName: s.String("node-name"), PodCIDR: s.String("pod-cidr"), ClusterCIDR: s.String("cluster-cidr"), ServiceCIDR: s.String("service-cidr"),
		ClusterDNS: s.String("cluster-dns"), ClusterDomain: s.String("cluster-domain"), Bridge: s.String("bridge"), Table: s.String("nft-table"),
		CgroupRoot: s.String("cgroup-root"), PlainHTTP: s.Strings("plain-http"), Logger: logger,
	}}
	if o.natsCredentials, err = credentials(s.String("nats-credentials"), o.kubeconfig); err != nil {
		return o, err
	}
	a := &o.agent
	if a.NodeName == "" {
		host, err := os.Hostname()
		if err != nil {
			return o, fmt.Errorf("node-name: %w", err)
		}
		a.NodeName = strings.ToLower(host) // names of Kubernetes objects are lower case
	}
	self, err := os.Executable()
	if err != nil {
		return o, fmt.Errorf("bin-dir: %w", err)
	}
	if a.DataDir, err = filepath.Abs(s.String("data-dir")); err != nil {
		return o, fmt.Errorf("data-dir: %w", err)
	}
	if a.BinDir, err = filepath.Abs(cmp.Or(s.String("bin-dir"), filepath.Dir(self))); err != nil {
		return o, fmt.Errorf("bin-dir: %w", err)
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
		a.NodeIPs = []string{ip}
	}
	if !strings.HasPrefix(a.CgroupRoot, "/") || a.CgroupRoot == "/" {
		return o, fmt.Errorf("cgroup-root %q: want an absolute path below the root, such as /orlog", a.CgroupRoot)
	}
	return o, nil
}

// credentials is the file given, or the one beside the kubeconfig where that exists.
func credentials(given, kubeconfig string) (string, error) {
	if given != "" {
		return given, nil
	}
	beside := filepath.Join(filepath.Dir(kubeconfig), "node.nats")
	switch _, err := os.Stat(beside); {
	case errors.Is(err, fs.ErrNotExist):
		return "", nil // a log may ask for none
	case err != nil:
		return "", fmt.Errorf("nats-credentials: %w", err)
	}
	return beside, nil
}
