package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/orlog-io/orlog/cli/settings"
)

const defaultConfig = "/etc/orlog/orlogd.yaml"

func main() {
	if err := newCommand().Execute(); err != nil {
		fmt.Fprintln(os.Stderr, "orlogd:", err)
		os.Exit(1)
	}
}

func newCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "orlogd",
		Short: "Orlog's control plane",
		Long: `orlogd runs Orlog's control plane: the log, the Kubernetes API on it, the scheduler and the reconcilers.

Every flag can also be set in the environment (--data-dir is ORLOG_DATA_DIR) or in the configuration file
(data-dir: ...). A flag wins over the environment, the environment over the file.`,
		Example: `  # A control plane on this machine, state in /var/lib/orlog
  orlogd

  # The whole of Orlog in one process, for a small machine
  orlogd --agent

  # On an external NATS cluster
  orlogd --nats-url tls://a:4222,tls://b:4222,tls://c:4222 --nats-replicas 3 --nats-credentials /etc/orlog/services.creds --nats-ca /etc/orlog/nats-ca.crt

  # One more gateway, on the log of the orlogd on host a (with copies of its pki folder and nats/services.nats)
  orlogd --gateway-only --nats-url tls://a:4222 --nats-credentials /etc/orlog/services.nats --nats-ca /var/lib/orlog/pki/ca.crt`,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(c *cobra.Command, _ []string) error {
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
			if o.agent == nil {
				// Nobody else reads what orlogd keeps; NATS would let the group. An agent has files for containers.
				unix.Umask(0o077)
			}
			ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			if os.Getenv("GOGC") == "" { // else somebody knows better
				debug.SetGCPercent(restPercent)
				paced := make(chan struct{})
				go func() { defer close(paced); paceCollector(ctx) }()
				defer func() { stop(); <-paced }()
			}
			return run(ctx, o, logger)
		},
	}
	addFlags(c.PersistentFlags())
	settings.AddFlags(c.PersistentFlags(), defaultConfig)
	c.AddCommand(newConfigCommand())
	return c
}
