package agent

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	corev1 "k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
	"k8s.io/klog/v2"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/node/agent/ladder"
)

// suits tells why a pod cannot run on this node whatever is free: a pod may be bound past the scheduler. nil: it can.
func (a *Agent) suits(pod *v1.Pod) *ladder.Rejection {
	if pod.Spec.OS != nil && string(pod.Spec.OS.Name) != runtime.GOOS {
		return &ladder.Rejection{Reason: "PodOSNotSupported", Message: "Pod was rejected: Failed to admit pod as the OS field doesn't match node OS"}
	}
	if name, bad := forbiddenSysctl(pod); bad {
		return &ladder.Rejection{Reason: "SysctlForbidden", Message: fmt.Sprintf("Pod was rejected: forbidden sysctl: %q not allowlisted", name)}
	}
	node, err := get[v1.Node](a.o.Store, a.nodeKey(), "node")
	if err != nil {
		return nil // not registered yet: nothing is known that would speak against it
	}
	failed := func(predicate, message string) *ladder.Rejection {
		return &ladder.Rejection{Reason: predicate, Message: fmt.Sprintf("Pod was rejected: Predicate %s failed: %s", predicate, message)}
	}
	if match, err := nodeaffinity.GetRequiredNodeAffinity(pod).Match(node); err != nil || !match {
		return failed("NodeAffinity", "node(s) didn't match Pod's node affinity/selector")
	}
	taint, untolerated := corev1.FindMatchingUntoleratedTaint(klog.Background(), node.Spec.Taints, pod.Spec.Tolerations, func(t *v1.Taint) bool {
		return t.Effect == v1.TaintEffectNoExecute
	}, true)
	if untolerated {
		return failed("TaintToleration", fmt.Sprintf("node(s) had untolerated taint {%s: %s}", taint.Key, taint.Value))
	}
	return nil
}

// runnable tells what a pod asks of the runtime that this one does not have. nil: nothing.
func (a *Agent) runnable(pod *v1.Pod) error {
	if pod.Spec.HostUsers != nil && !*pod.Spec.HostUsers {
		return errors.New("user namespaces are not supported on this node: leave hostUsers out")
	}
	if pod.Spec.RuntimeClassName == nil || *pod.Spec.RuntimeClassName == "" {
		return nil
	}
	class, err := get[nodev1.RuntimeClass](a.o.Store, events.Key{Group: "node.k8s.io", Resource: "runtimeclasses", Name: *pod.Spec.RuntimeClassName}, "runtimeclass")
	if err != nil {
		return err
	}
	if class.Handler != runtimeHandler {
		return fmt.Errorf("no runtime for %q is configured: this node has %q", class.Handler, runtimeHandler)
	}
	return nil
}

// runtimeHandler is the one that a RuntimeClass may name.
const runtimeHandler = "runc"

// safeSysctls are those that a pod may set: they belong to its own namespaces and cannot be used against others.
var safeSysctls = []string{
	"kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.tcp_syncookies", "net.ipv4.ping_group_range",
	"net.ipv4.ip_unprivileged_port_start", "net.ipv4.ip_local_reserved_ports", "net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_fin_timeout",
	"net.ipv4.tcp_keepalive_intvl", "net.ipv4.tcp_keepalive_probes", "net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem",
}

func forbiddenSysctl(pod *v1.Pod) (string, bool) {
	if pod.Spec.SecurityContext == nil {
		return "", false
	}
	for _, s := range pod.Spec.SecurityContext.Sysctls {
		name := sysctlName(s.Name)
		foreign := pod.Spec.HostNetwork && strings.HasPrefix(name, "net.") || pod.Spec.HostIPC && strings.HasPrefix(name, "kernel.")
		if foreign || !slices.Contains(safeSysctls, name) {
			return s.Name, true
		}
	}
	return "", false
}

// sysctlName is a name with dots, also where it was given with slashes (in which dots are part of a name).
func sysctlName(s string) string {
	if i := strings.IndexAny(s, "./"); i >= 0 && s[i] == '/' {
		return strings.Map(func(r rune) rune {
			switch r {
			case '/':
				return '.'
			case '.':
				return '/'
			}
			return r
		}, s)
	}
	return s
}
