package main

import (
	"os"

	"k8s.io/component-base/cli"
	"k8s.io/component-base/logs"
	"k8s.io/kubectl/pkg/cmd"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"

	_ "k8s.io/client-go/plugin/pkg/client/auth" // kubeconfigs that use exec, oidc and the like
)

func main() {
	// kubectl reads its verbosity before cobra parses flags, because building the commands logs already.
	if _, err := logs.GlogSetter(cmd.GetLogVerbosity(os.Args)); err != nil {
		cmdutil.CheckErr(err)
	}
	if err := cli.RunNoErrOutput(newRoot(os.Args)); err != nil {
		cmdutil.CheckErr(err)
	}
}
