package main

import (
	"context"
	"crypto/x509/pkix"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"regexp"

	"github.com/spf13/cobra"
	certificatesv1 "k8s.io/api/certificates/v1"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"sigs.k8s.io/yaml"

	"github.com/orlog-io/orlog/events/jetstream/credential"
	"github.com/orlog-io/orlog/services/access/request"
)

// integratorPattern is what an integrator's name may be: part of a NATS account's name.
var integratorPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

func newAuthIntegratorCommand(api *apiClient, streams genericiooptions.IOStreams) *cobra.Command {
	var output string
	c := &cobra.Command{
		Use:   "integrator NAME",
		Short: "Make credentials for a program that reads the log",
		Long: `Make credentials for a program that reads the log, and nothing else.

The file holds a key and the authority that the log's server is checked against: every NATS client takes it for
both (nats --nkey FILE --tlsca FILE). It is good at once. An integrator reads all that the log holds, which is what
the API shows an administrator: guard the file alike.`,
		Example: `  # A program that follows events
  orlog auth integrator billing -o billing.nats
  nats --server tls://orlog.example.com:4222 --nkey billing.nats --tlsca billing.nats stream view ORLOG

  # Another key for the same program; then take the old one
  orlog auth integrator billing -o new.nats
  orlog auth list
  orlog auth revoke --request log-integrator-billing-1f2e3d4c5b`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if !integratorPattern.MatchString(args[0]) {
				return fmt.Errorf("NAME %q: want letters, digits, dots, - and _", args[0])
			}
			if output != "" && output != "-" {
				if err := mustNotExist(output); err != nil {
					return err
				}
			}
			where, err := api.logClients(c.Context())
			if err != nil {
				return err
			}
			made, err := api.letIn(c.Context(), request.ReaderSigner, args[0], where.Authority)
			if err != nil {
				return err
			}
			if err := emit(streams, output, made.Bytes()); err != nil {
				return err
			}
			if output != "" && output != "-" {
				_, err = fmt.Fprintf(streams.ErrOut, "%s: credentials of %s for the log at %s\n", output, args[0], where.URL)
			}
			return err
		},
	}
	c.Flags().StringVarP(&output, "output", "o", "", "File to write, of mode 0600 (default: standard output)")
	return c
}

func newAuthNodeCommand(api *apiClient, streams genericiooptions.IOStreams) *cobra.Command {
	o := &authNodeFlags{}
	c := &cobra.Command{
		Use:   "node NAME",
		Short: "Make what the agent of a new node needs",
		Long: `Make what the agent of a new node needs: a kubeconfig, credentials for the log, and a configuration file. They are
good at once; nothing needs to be restarted.`,
		Example: `  # A folder to copy to /etc/orlog on the machine worker-2
  orlog auth node worker-2 -o worker-2
  scp worker-2/* root@worker-2:/etc/orlog/
  ssh root@worker-2 systemctl enable --now orlog-agent

  # For an API server and a log that are reached under other names
  orlog auth node worker-2 --url https://orlog.example.com:6443 --nats-url tls://orlog.example.com:4222 -o worker-2`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return o.run(c.Context(), api, args[0], streams)
		},
	}
	f := c.Flags()
	f.StringVarP(&o.output, "output", "o", "", "Folder to write to (default: NAME)")
	f.StringVar(&o.url, "url", "", "URL of the API server for the kubeconfig (default: the one that nodes use)")
	f.StringVar(&o.natsURL, "nats-url", "", "URL of the log for the configuration file (default: as orlogd tells)")
	return c
}

type authNodeFlags struct{ output, url, natsURL string }

// nodePattern is what a node's name may be: an object's name.
var nodePattern = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$`)

func (o *authNodeFlags) run(ctx context.Context, api *apiClient, node string, streams genericiooptions.IOStreams) error {
	if !nodePattern.MatchString(node) {
		return fmt.Errorf("NAME %q: want lower-case letters, digits, dots and -, as --node-name of its agent", node)
	}
	dir := o.output
	if dir == "" {
		dir = node
	}
	kubeconfig, natsFile, config := filepath.Join(dir, "node.kubeconfig"), filepath.Join(dir, "node.nats"), filepath.Join(dir, "orlog-agent.yaml")
	if err := mustNotExist(kubeconfig, natsFile, config); err != nil {
		return err
	}
	where, err := api.logClients(ctx)
	if err != nil {
		return err
	}
	if o.natsURL != "" {
		where.URL = o.natsURL
	}
	settings, err := yaml.Marshal(map[string]string{"node-name": node, "nats-url": where.URL})
	if err != nil {
		return err
	}
	cluster, err := api.cluster(ctx, o.url)
	if err != nil {
		return err
	}
	user := request.NodePrefix + node
	who, err := api.certify(ctx, certificatesv1.KubeAPIServerClientKubeletSignerName, pkix.Name{CommonName: user, Organization: []string{"system:nodes"}}, longestLife)
	if err != nil {
		return err
	}
	made, err := api.letIn(ctx, request.NodeSigner, node, where.Authority)
	if err != nil {
		return err
	}
	if err := writeKubeconfig(streams, kubeconfig, cluster, user, who); err != nil {
		return err
	}
	if err := credential.Write(natsFile, made.Bytes()); err != nil {
		return err
	}
	if err := credential.Write(config, append([]byte("# The settings of orlog-agent on "+node+": /etc/orlog/orlog-agent.yaml\n"), settings...)); err != nil {
		return err
	}
	fmt.Fprintf(streams.ErrOut, "%s: credentials of the node for the log at %s\n%s: settings\nCopy all three to /etc/orlog on %s and start orlog-agent there.\n", natsFile, where.URL, config, node)
	if u, err := url.Parse(where.URL); err == nil && net.ParseIP(u.Hostname()).IsLoopback() {
		fmt.Fprintln(streams.ErrOut, "The log listens on loopback only: for agents elsewhere start orlogd with --nats-listen 0.0.0.0:4222.")
	}
	return nil
}
