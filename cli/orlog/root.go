package main

import (
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/kubectl/pkg/cmd"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"
)

// newRoot builds the whole command tree: kubectl's, renamed, and Orlog's. The kubeconfig that its commands
// will use is known once one of them runs.
func newRoot(args []string, streams genericiooptions.IOStreams, now func() time.Time) (*cobra.Command, *kubeconfigSource) {
	flags := genericclioptions.NewConfigFlags(true).WithDeprecatedPasswordFlag().
		WithDiscoveryBurst(300).WithDiscoveryQPS(50).WithWarningPrinter(streams)
	request := &requestFlags{}
	flags.WithWrapConfigFn(request.wrap)
	if len(args) > 1 && strings.HasPrefix(args[1], cobra.ShellCompRequestCmd) {
		useNearestKubeconfig(flags) // a completion does not come through PersistentPreRunE
	}

	root := cmd.NewKubectlCommand(cmd.KubectlOptions{Arguments: args, ConfigFlags: flags, IOStreams: streams})
	root.Use = "orlog"
	root.Short = "orlog runs containers from a log that remembers everything"
	root.Long = `orlog runs containers from a log that remembers everything.

All of kubectl's commands work here as you know them. Besides them:

  orlog history deployment/web     who changed what, when, from what to what
  orlog why pod/NAME               the chain of causes, back to somebody's command
  orlog diff deployment/web        what the newest change did; --from and --to name other moments
  orlog get pods --at 12m          the cluster as it was (also a sequence or a time)
  orlog tail                       follow every event of the cluster
  orlog auth list|revoke|...       who has access: give it, take it
  orlog doctor                     check whether this machine is fit to run Orlog
  orlog image pack|load|pull|ls|rm the images of this node`
	request.addTo(root)

	before := root.PersistentPreRunE
	root.PersistentPreRunE = func(c *cobra.Command, args []string) error {
		if err := request.resolve(now()); err != nil {
			return err
		}
		useNearestKubeconfig(flags)
		return before(c, args)
	}

	f := cmdutil.NewFactory(cmdutil.NewMatchVersionFlags(flags))
	api := &apiClient{factory: f, now: now}
	extendDiff(root, api, request, streams)
	rename(root)
	extendVersion(root, f, streams)
	extendAuth(root, api, streams)
	history, why := newHistoryCommand(api, streams), newWhyCommand(api, streams)
	for _, c := range []*cobra.Command{history, why, subcommand(root, "diff")} {
		completeObject(f, c)
	}
	kubeconfig := &kubeconfigSource{flags: flags}
	root.AddCommand(history, why, newTailCommand(api, request, streams), newImageCommand(streams), newDoctorCommand(api, kubeconfig, streams))
	return root, kubeconfig
}

// rename makes kubectl's help speak of orlog, so that an example can be pasted as it stands. Names that hold
// kubectl (annotations, environment variables, kubectl's own files) stay.
func rename(c *cobra.Command) {
	say := strings.NewReplacer("kubectl ", "orlog ", "  kubectl", "  orlog", "kubectl`", "orlog`", "Kubectl or", "orlog or", "kubectl.\n", "orlog.\n")
	for _, sub := range c.Commands() {
		sub.Short = say.Replace(sub.Short)
		sub.Example = say.Replace(sub.Example)
		sub.Long = say.Replace(sub.Long)
		rename(sub)
	}
}
