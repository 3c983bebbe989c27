package main

import (
	"fmt"
	"os"
	"strings"
)

// explainFailures makes every error that ends the program also tell the next step.
func explainFailures(from *kubeconfigSource) func(message string, code int) {
	return func(message string, code int) {
		if message = strings.TrimSuffix(message, "\n"); message != "" {
			fmt.Fprintln(os.Stderr, message)
			if hint := nextStep(message, from.describe(), localInstall()); hint != "" {
				fmt.Fprintln(os.Stderr, hint)
			}
		}
		os.Exit(code)
	}
}

// install is how Orlog is run on this machine, as far as files tell.
type install int

const (
	noInstall install = iota
	checkout          // a source tree with a Taskfile
	service           // systemd units
)

func localInstall() install {
	if _, err := os.Stat("/etc/systemd/system/orlogd.service"); err == nil {
		return service
	}
	if dir, err := os.Getwd(); err == nil {
		if path := nearestAbove(dir, "deploy/local/up"); path != "" {
			return checkout
		}
	}
	return noInstall
}

// start says how to start the cluster.
func (i install) start() string {
	switch i {
	case checkout:
		return "start it with `task up` (go run github.com/go-task/task/v3/cmd/task@v3.52.0 up)"
	case service:
		return "start it with `systemctl start orlogd`; `journalctl -u orlogd` says why it stopped"
	}
	return "start it with `task up` in Orlog's source tree, or `systemctl start orlogd` where it is installed"
}

// nextStep is advice for an error's message, "" where there is none. kubeconfig says where the connection's
// settings come from.
func nextStep(message, kubeconfig string, here install) string {
	has := func(parts ...string) bool {
		for _, p := range parts {
			if strings.Contains(message, p) {
				return true
			}
		}
		return false
	}
	switch {
	case has("localhost:8080 was refused"):
		return "No kubeconfig was found: looked at --kubeconfig, $KUBECONFIG, .orlog/kubeconfig here and above, ~/.kube/config and " + systemKubeconfig +
			".\nIf no cluster runs yet, " + here.start() + "."
	case has("was refused", "connection refused"):
		return fmt.Sprintf("The cluster that %s names does not answer. If it is this machine's, %s; `orlog doctor` checks the machine.", kubeconfig, here.start())
	case has("certificate signed by unknown authority", "certificate is not valid"):
		return fmt.Sprintf("The server is another one than %s was written for: an Orlog that was set up anew has new keys. Name its own kubeconfig with --kubeconfig or $KUBECONFIG.", kubeconfig)
	case has("You must be logged in", "(Unauthorized)"):
		return fmt.Sprintf("The server does not accept the credentials in %s: they are another cluster's, have expired or were revoked. Name the right kubeconfig with --kubeconfig or $KUBECONFIG.", kubeconfig)
	case has("no such host", "i/o timeout", "no route to host", "network is unreachable"):
		return fmt.Sprintf("The server that %s names cannot be reached from here.", kubeconfig)
	case has("GET /orlog/v1/events"):
		return "Who may watch a kind may follow it: orlog tail --kind pod -n NAMESPACE. The whole stream takes RBAC's nonResourceURLs: [\"/orlog/v1/*\"], verbs: [\"get\"]."
	case has("the log has no event about"):
		return "Is it in another namespace (-n)? orlog tail --from 1 --follow=false --name NAME finds every event about a name."
	case has("permission denied") && has("kubeconfig"):
		return "The administrator's kubeconfig can be read by root only: use sudo, or ask for a kubeconfig of your own."
	}
	return ""
}
