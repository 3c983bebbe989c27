package main

import (
	"os"
	"path/filepath"

	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/client-go/tools/clientcmd"
)

// systemKubeconfig is where an installed Orlog keeps the admin's kubeconfig.
const systemKubeconfig = "/etc/orlog/kubeconfig"

// useNearestKubeconfig picks a kubeconfig where the user named none, by flag, by $KUBECONFIG or by having
// ~/.kube/config: the one of the nearest .orlog folder above, then the installed one.
func useNearestKubeconfig(flags *genericclioptions.ConfigFlags) {
	if *flags.KubeConfig != "" || os.Getenv(clientcmd.RecommendedConfigPathEnvVar) != "" {
		return
	}
	if path := nearestInstall("kubeconfig"); path != "" {
		*flags.KubeConfig = path
		return
	}
	if _, err := os.Stat(clientcmd.RecommendedHomeFile); err == nil {
		return
	}
	if _, err := os.Stat(systemKubeconfig); err == nil {
		*flags.KubeConfig = systemKubeconfig
	}
}

// nearestInstall finds a path inside the nearest .orlog folder, from the working directory upwards; "" where
// there is none.
func nearestInstall(path ...string) string {
	dir, err := os.Getwd()
	if err != nil {
		return ""
	}
	for {
		p := filepath.Join(append([]string{dir, ".orlog"}, path...)...)
		if _, err := os.Stat(p); err == nil {
			return p
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return ""
		}
		dir = parent
	}
}
