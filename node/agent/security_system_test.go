//go:build system

package agent

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
)

func ptrTo[T any](v T) *T { return &v }

// report is a script that says what confines it, a line each.
const report = `id -u; id -g; id -G; grep -E "CapEff|NoNewPrivs|^Seccomp:" /proc/self/status | tr -d "\t"; touch /made 2>/dev/null && echo writable || echo read-only
mkdir /tmp/x 2>/dev/null && echo mkdir || echo no-mkdir; unshare -U true 2>/dev/null && echo unshare || echo no-unshare; echo end; sleep 1000`

// What a pod's and its containers' security contexts ask for is what the kernel says of their processes.
func TestRealSecurityContexts(t *testing.T) {
	h := newHost(t)
	profiles := filepath.Join(h.dir, "agent/seccomp/profiles")
	if err := os.MkdirAll(profiles, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(profiles+"/no-mkdir.json", []byte(`{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO"}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	cases := map[string]struct {
		context *v1.SecurityContext
		want    []string
	}{
		"plain":     {nil, []string{"0", "0", "0 2000 3000", "CapEff:00000000a80425fb", "NoNewPrivs:0", "Seccomp:0", "writable", "mkdir"}},
		"user":      {&v1.SecurityContext{RunAsUser: ptrTo(int64(1001)), RunAsGroup: ptrTo(int64(1002))}, []string{"1001", "1002", "1002 2000 3000", "CapEff:0000000000000000", "read-only", "no-mkdir"}},
		"named":     {&v1.SecurityContext{RunAsUser: ptrTo(int64(101))}, []string{"101", "102", "102 2000 3000"}},
		"read-only": {&v1.SecurityContext{ReadOnlyRootFilesystem: ptrTo(true)}, []string{"read-only", "no-mkdir"}},
		"no-gain":   {&v1.SecurityContext{AllowPrivilegeEscalation: ptrTo(false)}, []string{"NoNewPrivs:1"}},
		"dropped":   {&v1.SecurityContext{Capabilities: &v1.Capabilities{Drop: []v1.Capability{"ALL"}, Add: []v1.Capability{"NET_ADMIN", "CAP_CHOWN"}}}, []string{"CapEff:0000000000001001"}},
		"added":     {&v1.SecurityContext{Capabilities: &v1.Capabilities{Drop: []v1.Capability{"MKNOD"}, Add: []v1.Capability{"SYS_TIME"}}}, []string{"CapEff:00000000a20425fb"}},
		"default":   {&v1.SecurityContext{SeccompProfile: &v1.SeccompProfile{Type: v1.SeccompProfileTypeRuntimeDefault}}, []string{"Seccomp:2", "mkdir", "no-unshare"}},
		"local":     {&v1.SecurityContext{SeccompProfile: &v1.SeccompProfile{Type: v1.SeccompProfileTypeLocalhost, LocalhostProfile: ptrTo("profiles/no-mkdir.json")}}, []string{"Seccomp:2", "no-mkdir"}},
		"free":      {&v1.SecurityContext{SeccompProfile: &v1.SeccompProfile{Type: v1.SeccompProfileTypeUnconfined}}, []string{"Seccomp:0", "mkdir"}},
		"all":       {&v1.SecurityContext{Privileged: ptrTo(true)}, []string{"NoNewPrivs:0", "Seccomp:0", "writable"}},
	}
	p := shell("contexts", "sleep 1000", func(p *v1.Pod) {
		p.Spec.SecurityContext = &v1.PodSecurityContext{FSGroup: ptrTo(int64(2000)), SupplementalGroups: []int64{3000}}
		for name, c := range cases {
			p.Spec.Containers = append(p.Spec.Containers, v1.Container{Name: name, Image: "busybox:1", Command: []string{"/bin/sh", "-c", report}, SecurityContext: c.context})
		}
	})
	h.want(p, "bound")
	h.awaitReady(p)
	for name, c := range cases {
		got := strings.Split(h.logUntil(p, name, 0, "end\n"), "\n")
		at := 0
		for _, line := range got { // in this order, others in between
			if at < len(c.want) && line == c.want[at] {
				at++
			}
		}
		if at < len(c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// A pod that asks for no profile is confined where the node wants it.
func TestRealSeccompByDefault(t *testing.T) {
	h := newHostWith(t, func(h *host) { h.options.SeccompDefault = true })
	p := shell("confined", report, nil)
	h.want(p, "bound")
	h.awaitReady(p)
	if got := h.logUntil(p, "main", 0, "end\n"); !strings.Contains(got, "Seccomp:2\n") || !strings.Contains(got, "no-unshare") {
		t.Errorf("%q", got)
	}
}

// A root user where none is allowed, a profile that is not there and the like are CreateContainerConfigError or
// CreateContainerError with words that help.
func TestRealContextsThatCannotBe(t *testing.T) {
	h := newHost(t)
	for name, c := range map[string]struct {
		context         *v1.SecurityContext
		reason, message string
	}{
		"root":    {&v1.SecurityContext{RunAsNonRoot: ptrTo(true)}, "CreateContainerConfigError", "container has runAsNonRoot and image will run as root"},
		"no-file": {&v1.SecurityContext{SeccompProfile: &v1.SeccompProfile{Type: v1.SeccompProfileTypeLocalhost, LocalhostProfile: ptrTo("none.json")}}, "CreateContainerError", "none.json"},
		"no-such": {&v1.SecurityContext{Capabilities: &v1.Capabilities{Add: []v1.Capability{"FLY"}}}, "CreateContainerError", "FLY"},
	} {
		p := shell(name, "sleep 1000", func(p *v1.Pod) { p.UID += "-2"; p.Spec.Containers[0].SecurityContext = c.context })
		h.want(p, "bound")
		st := h.await(p, "waiting", func(_ string, st *v1.PodStatus) bool {
			return st.ContainerStatuses[0].State.Waiting != nil && st.ContainerStatuses[0].State.Waiting.Reason != "ContainerCreating"
		})
		if w := st.ContainerStatuses[0].State.Waiting; w.Reason != c.reason || !strings.Contains(w.Message, c.message) {
			t.Errorf("%s: %+v, want %s: %s", name, w, c.reason, c.message)
		}
	}
}

// The host's namespaces where they are asked for, the pod's own otherwise; sysctls in the latter.
func TestRealNamespacesAndSysctls(t *testing.T) {
	h := newHost(t)
	const spaces = `for n in net pid ipc uts; do readlink /proc/self/ns/$n; done; cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/shm_rmid_forced; hostname; echo end; sleep 1000`
	ns := func(name string) string {
		at, err := os.Readlink("/proc/thread-self/ns/" + name)
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	own := shell("own", spaces, func(p *v1.Pod) {
		p.Spec.SecurityContext = &v1.PodSecurityContext{Sysctls: []v1.Sysctl{{Name: "net.ipv4.ip_unprivileged_port_start", Value: "80"}, {Name: "kernel/shm_rmid_forced", Value: "1"}}}
	})
	hosts := shell("hosts", spaces, func(p *v1.Pod) { p.Spec.HostNetwork, p.Spec.HostPID, p.Spec.HostIPC = true, true, true })
	shared := shell("shared-pid", "sleep 1000", func(p *v1.Pod) {
		p.Spec.ShareProcessNamespace = ptrTo(true)
		p.Spec.Containers = append(p.Spec.Containers, v1.Container{Name: "second", Image: "busybox:1", Command: []string{"/bin/sh", "-c", "while ! ps | grep -q '[s]leep 1000'; do sleep 0.1; done; echo seen; sleep 2000"}})
	})
	bad := shell("forbidden", "true", func(p *v1.Pod) {
		p.Spec.SecurityContext = &v1.PodSecurityContext{Sysctls: []v1.Sysctl{{Name: "kernel.msgmax", Value: "1"}}}
	})
	for _, p := range []*v1.Pod{own, hosts, shared, bad} {
		h.want(p, "bound")
	}
	h.awaitReady(own)
	st := h.awaitReady(hosts)
	if st.PodIP != st.HostIP || st.HostIP != "192.0.2.10" {
		t.Errorf("addresses: pod %s, host %s", st.PodIP, st.HostIP)
	}
	mine, theirs := strings.Split(h.logUntil(own, "main", 0, "end\n"), "\n"), strings.Split(h.logUntil(hosts, "main", 0, "end\n"), "\n")
	for i, name := range []string{"net", "pid", "ipc", "uts"} {
		if mine[i] == ns(name) {
			t.Errorf("a pod of its own shares %s with the host", name)
		}
		if theirs[i] != ns(name) {
			t.Errorf("a pod of the host has its own %s", name)
		}
	}
	if mine[4] != "80" || mine[5] != "1" || mine[6] != "own" {
		t.Errorf("sysctls and name: %q", mine[4:])
	}
	if node, err := os.Hostname(); err != nil || theirs[6] != node {
		t.Errorf("host name %q, want %q %v", theirs[6], node, err)
	}
	h.awaitReady(shared)
	h.logUntil(shared, "second", 0, "seen\n")
	st = h.await(bad, "rejected", func(_ string, st *v1.PodStatus) bool { return st.Phase == v1.PodFailed })
	if st.Reason != "SysctlForbidden" {
		t.Errorf("%s: %s", st.Reason, st.Message)
	}
}

// kubectl debug: a container that is added to a running pod, and sees the processes of the one it names.
func TestRealEphemeralContainer(t *testing.T) {
	h := newHost(t)
	p := shell("subject", `trap "exit 0" TERM; while :; do sleep 0.1; done`, nil)
	h.want(p, "bound")
	h.awaitReady(p)
	p.Spec.EphemeralContainers = []v1.EphemeralContainer{
		{TargetContainerName: "main", EphemeralContainerCommon: v1.EphemeralContainerCommon{Name: "debugger", Image: "busybox:1",
			Command: []string{"/bin/sh", "-c", `readlink /proc/1/ns/mnt; readlink /proc/self/ns/mnt; grep -c trap /proc/1/cmdline; echo end; sleep 1000`}}},
		{EphemeralContainerCommon: v1.EphemeralContainerCommon{Name: "alone", Image: "busybox:1", Command: []string{"/bin/sh", "-c", "echo pid $$$$; exit 5"}}},
	}
	p.Generation++
	h.want(p, "ephemeral-containers-added")
	got := strings.Split(h.logUntil(p, "debugger", 0, "end\n"), "\n")
	if got[0] == got[1] || got[2] != "1" {
		t.Errorf("the debugger's first process is not the subject's: %q", got)
	}
	st := h.await(p, "both run", func(_ string, st *v1.PodStatus) bool {
		return len(st.EphemeralContainerStatuses) == 2 && st.EphemeralContainerStatuses[0].State.Running != nil && st.EphemeralContainerStatuses[1].State.Terminated != nil
	})
	if end := st.EphemeralContainerStatuses[1]; end.State.Terminated.ExitCode != 5 || end.RestartCount != 0 || !podReady(st) {
		t.Errorf("the other: %+v", end)
	}
	if got := h.logOf(p, "alone", 0); got != "pid 1\n" {
		t.Errorf("the other's log: %q", got)
	}
	h.remove(p, 5)
}

// requests and limits as the kernel has them, in whatever cgroup version this machine uses.
func (h *host) cgroupFile(p *v1.Pod, container bool, v1File, v2File string) string {
	h.Helper()
	list, err := h.runtime.Status(h.Context(), string(p.UID))
	if err != nil || len(list) == 0 {
		h.Fatal(list, err)
	}
	dir := list[0].Cgroup
	if !container {
		dir = filepath.Dir(dir)
	}
	for _, f := range []string{filepath.Join("/sys/fs/cgroup", strings.SplitN(v1File, ".", 2)[0], dir, v1File), filepath.Join("/sys/fs/cgroup", dir, v2File)} {
		if b, err := os.ReadFile(f); err == nil {
			return strings.TrimSpace(string(b))
		}
	}
	return fmt.Sprintf("neither %s nor %s in %s", v1File, v2File, dir)
}
