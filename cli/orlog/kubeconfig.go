package main

import (
	"cmp"
	"os"
	"path/filepath"

	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/client-go/tools/clientcmd"
)

// systemKubeconfig is where an installed Orlog keeps the admin's kubeconfig.
const systemKubeconfig = "/etc/orlog/kubeconfig"

// kubeconfigSource knows which kubeconfig is used, for messages.
type kubeconfigSource struct {
	flags *genericclioptions.ConfigFlags
}

// found reports whether there is any kubeconfig.
func (k *kubeconfigSource) found() bool {
	for _, path := range filepath.SplitList(k.describe()) { // $KUBECONFIG may name several
		if _, err := os.Stat(path); err == nil {
			return true
		}
	}
	return false
}

func (k *kubeconfigSource) describe() string {
	if *k.flags.KubeConfig != "" {
		return *k.flags.KubeConfig
	}
	return cmp.Or(os.Getenv(clientcmd.RecommendedConfigPathEnvVar), clientcmd.RecommendedHomeFile)
}

// useNearestKubeconfig picks a kubeconfig where the user named none, by flag or by $KUBECONFIG: the one of the
// nearest .orlog folder above, else ~/.kube/config, else the installed one.
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
	return nearestAbove(dir, filepath.Join(append([]string{".orlog"}, path...)...))
}

// nearestAbove finds a path in a folder or the nearest one above it, "" where none has it.
func nearestAbove(dir, path string) string {
	for {
		p := filepath.Join(dir, path)
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
