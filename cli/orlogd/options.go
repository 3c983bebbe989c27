package main

import (
	"cmp"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"regexp"
	"strconv"
	"time"

	"github.com/spf13/pflag"

	"github.com/orlog-io/orlog/cli/nodeagent"
	"github.com/orlog-io/orlog/cli/settings"
	"github.com/orlog-io/orlog/cli/telemetry"
	"github.com/orlog-io/orlog/node/agent"
)

type options struct {
	dataDir          string
	listen           string
	advertiseAddress string
	kubeconfig       string
	nodeKubeconfig   string
	nodeName         string
	clusterName      string
	serviceCIDR      string
	clusterDomain    string
	eventTTL         time.Duration
	natsURL          string
	natsHost         string
	natsPort         int
	natsReplicas     int
	gatewayOnly      bool

	agent *agent.Options // this machine's node agent, in process; nil: none

	natsCredentials       string // orlogd's own, for an external cluster
	natsCA                string // the external cluster's
	nodeCredentials       string
	integratorCredentials string

	telemetry telemetry.Options
}

func addFlags(f *pflag.FlagSet) {
	f.String("data-dir", "/var/lib/orlog", "folder of the log, the projections and the keys; one orlogd at a time may use it")
	f.String("listen", "0.0.0.0:6443", "host:port of the Kubernetes API (HTTPS)")
	f.String("advertise-address", "", "IP at which nodes and pods reach the API (default: this host's own)")
	f.String("kubeconfig", "/etc/orlog/kubeconfig", "where to write the administrator's kubeconfig")
	f.String("node-kubeconfig", "/etc/orlog/node.kubeconfig", "where to write the kubeconfig of this machine's node agent")
	f.String("node-credentials", "", "where to write the log's credentials of this machine's node agent (default: node.nats beside the node-kubeconfig)")
	f.String("integrator-credentials", "", "where to write the log's credentials of integrators, who may read (default: integrator.nats beside the kubeconfig)")
	f.String("node-name", "", "name of this machine's node (default: the host name)")
	f.String("cluster-name", "orlog", "name of the cluster in the notary's signed checkpoints; it stays for the cluster's life")
	f.String("service-cidr", "10.96.0.0/16", "where ClusterIPs come from")
	f.String("cluster-domain", "cluster.local", "DNS domain of the cluster")
	f.Duration("event-ttl", 0, "how long Kubernetes' Events stay after they last happened; 0: for ever")
	f.String("nats-url", "", "external NATS servers, comma-separated (default: NATS runs inside orlogd)")
	f.String("nats-listen", "127.0.0.1:4222", "host:port of the NATS inside orlogd, for agents and integrators (TLS)")
	f.String("nats-credentials", "", "file with orlogd's credentials for external NATS servers: a .creds file or an nkey's seed")
	f.String("nats-ca", "", "file with the certificates (PEM) that external NATS servers are checked against (default: those in nats-credentials, else the system's)")
	f.Int("nats-replicas", 1, "how many NATS servers keep each event; 3 or 5 with an external cluster")
	f.Bool("gateway-only", false, "serve the Kubernetes API and nothing else, on the log at nats-url; another orlogd there runs the scheduler and the reconcilers")
	f.Bool("agent", false, "run this machine's node agent in this process, its state in data-dir/node")
	f.String("log-level", "info", "debug, info, warn or error")
	f.String("log-format", "text", "text or json")
	telemetry.AddFlags(f, "behind the API's /metrics, beside the API server's own")
	nodeagent.AddFlags(f)
}

var clusterNamePattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9.-]*$`)

func readOptions(s *settings.Settings, logger *slog.Logger) (o options, err error) {
	o = options{
		dataDir:          s.String("data-dir"),
		listen:           s.String("listen"),
		advertiseAddress: s.String("advertise-address"),
		kubeconfig:       s.String("kubeconfig"),
		nodeKubeconfig:   s.String("node-kubeconfig"),
		clusterName:      s.String("cluster-name"),
		serviceCIDR:      s.String("service-cidr"),
		clusterDomain:    s.String("cluster-domain"),
		eventTTL:         s.Duration("event-ttl"),
		natsURL:          s.String("nats-url"),
		natsReplicas:     s.Int("nats-replicas"),
		natsCredentials:  s.String("nats-credentials"),
		gatewayOnly:      s.Bool("gateway-only"),
		natsCA:           s.String("nats-ca"),
	}
	o.nodeCredentials = cmp.Or(s.String("node-credentials"), filepath.Join(filepath.Dir(o.nodeKubeconfig), "node.nats"))
	o.integratorCredentials = cmp.Or(s.String("integrator-credentials"), filepath.Join(filepath.Dir(o.kubeconfig), "integrator.nats"))
	if o.natsCA != "" && o.natsURL == "" {
		return o, fmt.Errorf("nats-ca needs --nats-url: the NATS inside orlogd has a certificate of orlogd's own authority")
	}
	if o.natsCredentials != "" && o.natsURL == "" {
		return o, fmt.Errorf("nats-credentials needs --nats-url: the NATS inside orlogd has credentials of its own making")
	}
	if o.gatewayOnly && s.Bool("agent") {
		return o, fmt.Errorf("gateway-only and agent exclude each other: run orlog-agent beside it")
	}
	if o.gatewayOnly && o.natsURL == "" {
		return o, fmt.Errorf("gateway-only needs --nats-url: a log of its own would have no scheduler and no reconcilers")
	}
	if o.dataDir, err = filepath.Abs(o.dataDir); err != nil {
		return o, fmt.Errorf("data-dir: %w", err)
	}
	if !clusterNamePattern.MatchString(o.clusterName) {
		return o, fmt.Errorf("cluster-name %q: want letters, digits, dots and dashes", o.clusterName)
	}
	host, port, err := net.SplitHostPort(s.String("nats-listen"))
	if err != nil {
		return o, fmt.Errorf("nats-listen %q: want host:port: %w", s.String("nats-listen"), err)
	}
	o.natsHost = host
	if o.natsPort, err = strconv.Atoi(port); err != nil || o.natsPort < 1 || o.natsPort > 65535 {
		return o, fmt.Errorf("nats-listen %q: %q is no port (1 to 65535)", s.String("nats-listen"), port)
	}
	if r := o.natsReplicas; r != 1 && r != 3 && r != 5 {
		return o, fmt.Errorf("nats-replicas %d: want 1, 3 or 5", r)
	}
	if o.natsReplicas > 1 && o.natsURL == "" {
		return o, fmt.Errorf("nats-replicas %d needs --nats-url: the NATS inside orlogd is one server", o.natsReplicas)
	}
	if o.nodeName, err = nodeagent.NodeName(s); err != nil {
		return o, err
	}
	if o.telemetry, err = telemetry.Read(s); err != nil {
		return o, err
	}
	if s.Bool("agent") {
		a, err := nodeagent.Read(s, filepath.Join(o.dataDir, "node"), logger)
		if err != nil {
			return o, err
		}
		o.agent = &a
	}
	return o, nil
}
