package main

import (
	"context"
	"os"
	"time"

	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/component-base/cli"
	"k8s.io/component-base/logs"
	"k8s.io/klog/v2"
	"k8s.io/kubectl/pkg/cmd"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"

	_ "k8s.io/client-go/plugin/pkg/client/auth" // kubeconfigs that use exec, oidc and the like
)

func main() {
	// kubectl reads its verbosity before cobra parses flags, because building the commands logs already.
	if _, err := logs.GlogSetter(cmd.GetLogVerbosity(os.Args)); err != nil {
		cmdutil.CheckErr(err)
	}
	// What client-go cannot return it logs; what it can, it logs as well: once is enough.
	//nolint:reassign // that is how apimachinery has it set
	utilruntime.ErrorHandlers = []utilruntime.ErrorHandler{func(_ context.Context, err error, msg string, details ...any) {
		klog.V(1).InfoS(msg, append(details, "err", err)...)
	}}
	root, kubeconfig := newRoot(os.Args, genericiooptions.IOStreams{In: os.Stdin, Out: os.Stdout, ErrOut: os.Stderr}, time.Now)
	cmdutil.BehaviorOnFatal(explainFailures(kubeconfig))
	if err := runPlugin(root, os.Args[1:]); err != nil {
		cmdutil.CheckErr(err)
	}
	if err := cli.RunNoErrOutput(root); err != nil {
		cmdutil.CheckErr(err)
	}
}
