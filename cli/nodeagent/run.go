package nodeagent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/orlog-io/orlog/events/jetstream"
	"github.com/orlog-io/orlog/node/agent"
)

// connectTimeout bounds how long an agent waits for the log at its start.
const connectTimeout = 2 * time.Minute

// Cluster is how an agent reaches its cluster.
type Cluster struct {
	// NATSURL are the servers of the log, comma-separated; NATSCredentials the file with the node's credentials,
	// "" for none.
	NATSURL, NATSCredentials string
	// NATSCA is a file with the certificates that the servers are checked against; "" for those in
	// NATSCredentials, or else the system's.
	NATSCA string
	// Kubeconfig is how to reach the Kubernetes API as this node.
	Kubeconfig string
}

// Run connects the agent and runs it until ctx ends (nil) or it fails. Pods run on.
func Run(ctx context.Context, c Cluster, o agent.Options) (err error) {
	if o.Registry == nil {
		o.Registry = prometheus.NewRegistry()
	}
	connecting, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	conn, err := jetstream.Connect(connecting, jetstream.Options{URL: c.NATSURL, Name: "orlog-agent/" + o.NodeName,
		Credentials: c.NATSCredentials, Authority: c.NATSCA, MustExist: true, Registry: o.Registry, Tracer: o.Tracer,
		OnError: func(err error) { o.Logger.Warn("log connection of the agent", "error", err) }})
	if err != nil {
		return err
	}
	defer conn.Close()
	if o.Log, err = conn.Log(connecting); err != nil {
		return err
	}
	if o.Volatile, err = conn.Volatile(connecting); err != nil {
		return err
	}
	o.Tunnel = conn.Tunnel()
	if o.Rest, err = clientcmd.BuildConfigFromFlags("", c.Kubeconfig); err != nil {
		return fmt.Errorf("kubeconfig %s: %w", c.Kubeconfig, err)
	}
	a, err := agent.Open(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.Close()) }()
	return a.Run(ctx)
}
