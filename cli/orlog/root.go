package main

import (
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/kubectl/pkg/cmd"
	"k8s.io/kubectl/pkg/cmd/plugin"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"
)

// newRoot builds the whole command tree: kubectl's, renamed, and Orlog's.
func newRoot(args []string) *cobra.Command {
	streams := genericiooptions.IOStreams{In: os.Stdin, Out: os.Stdout, ErrOut: os.Stderr}
	flags := genericclioptions.NewConfigFlags(true).WithDeprecatedPasswordFlag().
		WithDiscoveryBurst(300).WithDiscoveryQPS(50).WithWarningPrinter(streams)
	request := &requestFlags{}
	flags.WithWrapConfigFn(request.wrap)

	root := cmd.NewDefaultKubectlCommandWithArgs(cmd.KubectlOptions{
		PluginHandler: cmd.NewDefaultPluginHandler(plugin.ValidPluginFilenamePrefixes),
		Arguments:     args,
		ConfigFlags:   flags,
		IOStreams:     streams,
	})
	root.Use = "orlog"
	root.Short = "orlog runs containers from a log that remembers everything"
	root.Long = `orlog runs containers from a log that remembers everything.

All of kubectl's commands work here as you know them. Besides them:

  orlog history deployment/web     who changed what, when, from what to what
  orlog why pod/NAME               the chain of causes, back to somebody's command
  orlog get pods --at 12m          the cluster as it was (also a sequence or a time)
  orlog tail                       follow every event of the cluster
  orlog image pack|load|pull|ls|rm the images of this node`
	request.addTo(root)

	before := root.PersistentPreRunE
	root.PersistentPreRunE = func(c *cobra.Command, args []string) error {
		if err := request.resolve(time.Now()); err != nil {
			return err
		}
		useNearestKubeconfig(flags)
		return before(c, args)
	}

	f := cmdutil.NewFactory(cmdutil.NewMatchVersionFlags(flags))
	api := &apiClient{factory: f}
	root.AddCommand(newHistoryCommand(api, streams), newWhyCommand(api, streams), newTailCommand(api, streams), newImageCommand(streams))
	rename(root)
	return root
}

// rename makes kubectl's help speak of orlog, so that an example can be pasted as it stands.
func rename(c *cobra.Command) {
	say := strings.NewReplacer("kubectl ", "orlog ", "  kubectl", "  orlog")
	for _, sub := range c.Commands() {
		sub.Example = say.Replace(sub.Example)
		sub.Long = say.Replace(sub.Long)
		rename(sub)
	}
}
