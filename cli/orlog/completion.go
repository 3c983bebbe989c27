package main

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"
	"k8s.io/kubectl/pkg/util/completion"
)

// completeObject completes KIND/NAME and KIND NAME by kubectl's own functions, one object at most.
func completeObject(f cmdutil.Factory, c *cobra.Command) {
	kubectls := completion.ResourceTypeAndNameCompletionFunc(f)
	c.ValidArgsFunction = func(c *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 1 || len(args) == 1 && strings.Contains(args[0], "/") {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return kubectls(c, args, typed)
	}
}

// mustComplete registers a flag's completion; that fails only for a flag that is not there.
func mustComplete(c *cobra.Command, flag string, f cobra.CompletionFunc) {
	if err := c.RegisterFlagCompletionFunc(flag, f); err != nil {
		panic(err)
	}
}

// completeOutput completes -o.
func completeOutput(c *cobra.Command) {
	formats := []string{"wide", "json", "yaml"}
	if c.Name() == "tail" {
		formats = formats[:2]
	}
	mustComplete(c, "output", cobra.FixedCompletions(formats, cobra.ShellCompDirectiveNoFileComp))
}

func completeTail(api *apiClient, c *cobra.Command) {
	mustComplete(c, "class", cobra.FixedCompletions([]string{"desired", "observed"}, cobra.ShellCompDirectiveNoFileComp))
	mustComplete(c, "color", cobra.FixedCompletions([]string{"auto", "always", "never"}, cobra.ShellCompDirectiveNoFileComp))
	mustComplete(c, "node", func(_ *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
		return completion.CompGetResource(api.factory, "node", typed), cobra.ShellCompDirectiveNoFileComp
	})
	mustComplete(c, "kind", func(_ *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
		return api.kinds(typed), cobra.ShellCompDirectiveNoFileComp
	})
}

// kinds are the cluster's resources that begin with what was typed, as kubectl names them. A cluster that does
// not answer completes nothing.
func (a *apiClient) kinds(typed string) []string {
	client, err := a.factory.ToDiscoveryClient()
	if err != nil {
		return nil
	}
	lists, err := client.ServerPreferredResources()
	if err != nil && len(lists) == 0 {
		return nil
	}
	done, typed := typed[:strings.LastIndex(typed, ",")+1], typed[strings.LastIndex(typed, ",")+1:]
	var out []string
	for _, list := range lists {
		group, _, hasGroup := strings.Cut(list.GroupVersion, "/")
		for _, r := range list.APIResources {
			name := r.Name
			if hasGroup {
				name += "." + group
			}
			if strings.HasPrefix(name, typed) && slices.Contains(r.Verbs, "get") {
				out = append(out, done+name)
			}
		}
	}
	slices.Sort(out)
	return out
}
