package main

import (
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/kubectl/pkg/cmd"
	"k8s.io/kubectl/pkg/cmd/plugin"
)

// runPlugin hands a command line over to kubectl's plugin (kubectl-NAME on the PATH) where no command of the
// tree is meant; then it does not return. kubectl would look for one before Orlog's own commands are added:
// those are not to be shadowed, and flags may stand before them.
func runPlugin(root *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	handler := cmd.NewDefaultPluginHandler(plugin.ValidPluginFilenamePrefixes)
	found, rest, err := root.Find(args)
	if err != nil {
		if name := args[0]; name == "help" || strings.HasPrefix(name, cobra.ShellCompRequestCmd) || strings.HasPrefix(name, "-") {
			return nil
		}
		return cmd.HandlePluginCommand(handler, args, 1)
	}
	if !cmd.IsSubcommandPluginAllowed(found.Name()) || len(rest) == 0 || strings.HasPrefix(rest[0], "-") {
		return nil
	}
	for _, sub := range found.Commands() {
		if sub.Name() == rest[0] {
			return nil
		}
	}
	return cmd.HandlePluginCommand(handler, args, len(args)-len(rest)+1)
}
