package agent

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
	v1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/node/image"
	"github.com/orlog-io/orlog/projections"
)

// Options are all that an agent needs. Open needs NodeName, DataDir, Log and BinDir, and fills in the parts; New needs
// the parts too: Store, Runtime, Exec, Images, Network.
type Options struct {
	NodeName string
	// DataDir holds all that the node keeps: projection, images, pods' records, volumes, networks, the outbox. LogDir
	// holds the containers' logs (default DataDir/logs).
	DataDir, LogDir string

	// BinDir holds runc, orlog-shim and, in cni/, the CNI plugins.
	BinDir string

	Log events.Log
	// Volatile is where heartbeats go; nil: none are sent.
	Volatile events.Log
	// Store is the agent's own projection of Log. The agent follows the log into it.
	Store *projections.Store

	Runtime Runtime
	Exec    Exec
	Images  Images
	Network Network
	// API is used for the Node object, tokens and Kubernetes Events; nil: none of these. Open makes it from Rest.
	API  API
	Rest *rest.Config
	// sandboxes is where the runtime keeps what containers write.
	sandboxes string
	// Tunnel is where the node's HTTP API (logs, exec, attach, port-forward) is served; nil: it is not.
	Tunnel events.Tunnel
	// PlainHTTP names registries that speak HTTP without TLS. Mirrors are asked before a registry itself, by its host.
	PlainHTTP []string
	Mirrors   map[string][]string
	// ImageGC says when images that nobody uses go (default image.DefaultPolicy).
	ImageGC image.Policy
	// DeadContainers says what is kept of a container's ended attempts.
	DeadContainers DeadContainers
	// LogMaxSize is how many bytes a container's log file grows to before it is rotated (default 10 MiB), LogFiles how
	// many files are kept of each (default 5).
	LogMaxSize int64
	LogFiles   int
	// SeccompDefault confines containers that ask for no seccomp profile by the runtime's own.
	SeccompDefault bool

	// ClusterDNS is the address of the cluster's DNS, "" for none; ClusterDomain defaults to cluster.local.
	ClusterDNS, ClusterDomain string
	// ResolvConf is the node's own resolver configuration (default /etc/resolv.conf).
	ResolvConf string
	// NodeIPs are the node's addresses, the first one the InternalIP. Empty: that of the default route.
	NodeIPs []string
	// PodCIDR is the node's share of pod addresses (default 10.244.0.0/24), ClusterCIDR all nodes' (default
	// 10.244.0.0/16), ServiceCIDR the services' (default 10.96.0.0/16).
	PodCIDR, ClusterCIDR, ServiceCIDR string
	// Bridge is the name of the pods' bridge (default orlog0), Table the beginning of the nftables tables' names
	// (default orlog). Two agents on one machine need two of each, and of CgroupRoot.
	Bridge, Table string
	// Labels and Taints are set on the Node object when it is registered.
	Labels map[string]string
	Taints []v1.Taint
	// Reserved is kept from pods: allocatable is capacity less this.
	Reserved v1.ResourceList
	// MaxPods defaults to 250.
	MaxPods int64
	// Port is where the node's HTTP API is reached, for the Node's daemonEndpoints; 0: 10250.
	Port int32
	// CgroupRoot is the group that all pods' groups are in (default /orlog).
	CgroupRoot string
	// Starts is how many pods are being started at once (default 4).
	Starts int
	// Version is reported as the kubelet's.
	Version string
	// Heartbeat is the lease's pace (default 10 s).
	Heartbeat time.Duration

	Logger *slog.Logger

	// Registry gets the agent's metrics and serves them as /metrics of the node's HTTP API; nil: one of its own.
	// Tracer makes a span of each step of a pod that belongs to a trace; nil: none.
	Registry *prometheus.Registry
	Tracer   trace.TracerProvider
	metrics  *metrics
}

// DeadContainers says what is kept of a container's ended attempts.
type DeadContainers struct {
	// Max is how many attempts before the current one keep their logs; negative: all. With 0 what the current one wrote
	// goes too, when it has ended.
	Max int
	// MinAge is how long an attempt's remains are kept in any case.
	MinAge time.Duration
}

// defaults fills in what may be left out.
func (o *Options) defaults() error {
	if o.NodeName == "" || o.DataDir == "" {
		return fmt.Errorf("agent options: NodeName %q, DataDir %q: both are required", o.NodeName, o.DataDir)
	}
	set := func(s *string, to string) {
		if *s == "" {
			*s = to
		}
	}
	set(&o.LogDir, filepath.Join(o.DataDir, "logs"))
	set(&o.ClusterDomain, "cluster.local")
	set(&o.ResolvConf, "/etc/resolv.conf")
	set(&o.CgroupRoot, "/orlog")
	set(&o.Version, "v1.36.3+orlog")
	set(&o.PodCIDR, "10.244.0.0/24")
	set(&o.ClusterCIDR, "10.244.0.0/16")
	set(&o.ServiceCIDR, "10.96.0.0/16")
	set(&o.Bridge, "orlog0")
	set(&o.Table, "orlog")
	if o.MaxPods == 0 {
		o.MaxPods = 250
	}
	if o.Port == 0 {
		o.Port = 10250
	}
	if o.Starts <= 0 {
		o.Starts = 4
	}
	if o.ImageGC == (image.Policy{}) {
		o.ImageGC = image.DefaultPolicy
	}
	if err := o.ImageGC.Validate(); err != nil {
		return fmt.Errorf("agent options: ImageGC: %w", err)
	}
	if o.Heartbeat <= 0 {
		o.Heartbeat = 10 * time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Registry == nil {
		o.Registry = prometheus.NewRegistry()
	}
	if o.metrics == nil {
		m, err := newMetrics(o.Registry)
		if err != nil {
			return err
		}
		o.metrics = m
	}
	if len(o.NodeIPs) == 0 {
		ip, err := defaultIP()
		if err != nil {
			return fmt.Errorf("agent options: NodeIPs: %w", err)
		}
		o.NodeIPs = []string{ip}
	}
	return nil
}

// complete fills in defaults, checks that nothing is missing, and makes the folders.
func (o *Options) complete() error {
	if err := o.defaults(); err != nil {
		return err
	}
	for name, missing := range map[string]bool{"Log": o.Log == nil, "Store": o.Store == nil, "Runtime": o.Runtime == nil,
		"Exec": o.Exec == nil, "Images": o.Images == nil, "Network": o.Network == nil} {
		if missing {
			return fmt.Errorf("agent options: %s is required", name)
		}
	}
	o.Runtime = measuredRuntime{o.Runtime, o.metrics}
	o.sandboxes = filepath.Join(o.DataDir, "runc")
	for _, dir := range []string{o.DataDir, o.LogDir} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("agent options: DataDir: %w", err)
		}
	}
	return nil
}
