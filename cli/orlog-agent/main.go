package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/orlog-io/orlog/cli/nodeagent"
	"github.com/orlog-io/orlog/cli/settings"
	"github.com/orlog-io/orlog/cli/telemetry"
	"github.com/orlog-io/orlog/node/agent"
)

const defaultConfig = "/etc/orlog/orlog-agent.yaml"

func main() {
	if err := newCommand().Execute(); err != nil {
		fmt.Fprintln(os.Stderr, "orlog-agent:", err)
		os.Exit(1)
	}
}

func newCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "orlog-agent",
		Short: "Orlog's node agent",
		Long: `orlog-agent runs the pods that the log binds to this node, by runc and CNI plugins.

Every flag can also be set in the environment (--data-dir is ORLOG_DATA_DIR) or in the configuration file
(data-dir: ...). A flag wins over the environment, the environment over the file. Pods run on when it stops.`,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE:          withNode(run),
	}
	addFlags(c.PersistentFlags())
	settings.AddFlags(c.PersistentFlags(), defaultConfig)
	c.AddCommand(settings.NewConfigCommand("orlog-agent", defaultConfig, func(s *settings.Settings) error { _, err := readOptions(s, slog.Default()); return err }))
	c.AddCommand(&cobra.Command{
		Use:   "reset",
		Short: "End all pods of this node and remove every trace of it from the host",
		Args:  cobra.NoArgs,
		RunE: withNode(func(ctx context.Context, o options) error {
			return agent.Reset(ctx, o.agent)
		}),
	})
	return c
}

// run is the agent's life, beside that of its metrics and traces.
func run(ctx context.Context, o options) error {
	listener, err := telemetry.Listen(o.telemetry)
	if err != nil {
		return err
	}
	if listener != nil {
		defer listener.Close()
	}
	traces, err := telemetry.OpenTraces(ctx, o.telemetry, "orlog-agent", o.agent.NodeName, o.agent.Logger)
	if err != nil {
		return err
	}
	defer traces.Close()
	o.agent.Registry, o.agent.Tracer = prometheus.NewRegistry(), traces.Provider()
	g, serve := errgroup.WithContext(ctx)
	g.Go(func() error { return listener.Serve(serve, o.agent.Registry) })
	g.Go(func() error { return nodeagent.Run(serve, o.cluster, o.agent) })
	return g.Wait()
}

// withNode reads the settings for a command and gives it a context that ends with a signal.
func withNode(do func(context.Context, options) error) func(*cobra.Command, []string) error {
	return func(c *cobra.Command, _ []string) error {
		s, err := settings.Load(c.Flags(), defaultConfig)
		if err != nil {
			return err
		}
		logger, err := settings.Logger(os.Stderr, s.String("log-level"), s.String("log-format"))
		if err != nil {
			return err
		}
		o, err := readOptions(s, logger)
		if err != nil {
			return err
		}
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
		defer stop()
		return do(ctx, o)
	}
}
