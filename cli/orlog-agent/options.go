package main

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/spf13/pflag"

	"github.com/orlog-io/orlog/cli/nodeagent"
	"github.com/orlog-io/orlog/cli/settings"
	"github.com/orlog-io/orlog/cli/telemetry"
	"github.com/orlog-io/orlog/node/agent"
)

type options struct {
	cluster nodeagent.Cluster
	agent   agent.Options

	telemetry telemetry.Options
}

func addFlags(f *pflag.FlagSet) {
	f.String("node-name", "", "name of this node (default: the host name)")
	f.String("data-dir", "/var/lib/orlog/node", "folder of everything that the node keeps; one agent at a time may use it")
	f.String("nats-url", "tls://127.0.0.1:4222", "NATS servers of the log, comma-separated")
	f.String("nats-credentials", "", "file with this node's credentials for the log (default: node.nats beside the kubeconfig, if it exists)")
	f.String("nats-ca", "", "file with the certificates (PEM) that the log's servers are checked against (default: those in nats-credentials, else the system's)")
	f.String("kubeconfig", "/etc/orlog/node.kubeconfig", "how to reach the Kubernetes API as this node")
	f.String("service-cidr", "10.96.0.0/16", "where ClusterIPs come from, as orlogd has it")
	f.String("cluster-domain", "cluster.local", "DNS domain of the cluster")
	f.String("log-level", "info", "debug, info, warn or error")
	f.String("log-format", "text", "text or json")
	telemetry.AddFlags(f, "behind the API's /api/v1/nodes/NODE/proxy/metrics")
	nodeagent.AddFlags(f)
}

func readOptions(s *settings.Settings, logger *slog.Logger) (o options, err error) {
	o.cluster = nodeagent.Cluster{NATSURL: s.String("nats-url"), NATSCA: s.String("nats-ca"), Kubeconfig: s.String("kubeconfig")}
	if o.cluster.NATSCredentials, err = credentials(s.String("nats-credentials"), o.cluster.Kubeconfig); err != nil {
		return o, err
	}
	if o.telemetry, err = telemetry.Read(s); err != nil {
		return o, err
	}
	o.agent, err = nodeagent.Read(s, s.String("data-dir"), logger)
	return o, err
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
