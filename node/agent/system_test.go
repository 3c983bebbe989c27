//go:build system

package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/events/memlog"
	"github.com/orlog-io/orlog/node/image"
	"github.com/orlog-io/orlog/node/network"
	"github.com/orlog-io/orlog/node/runc"
	"github.com/orlog-io/orlog/projections"
)

// binVar tells the inner process where the outer one built what the agent drives.
const binVar = "ORLOG_TEST_AGENT_BIN"

// The test binary runs again in network and mount namespaces of its own, which play the host: whatever happens,
// links, tables and mounts die with it.
func TestMain(m *testing.M) {
	if os.Getenv(binVar) == "" {
		if err := onOwnHost(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if err := errors.Join(unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""), exec.Command("ip", "link", "set", "lo", "up").Run()); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

func onOwnHost() error {
	dir, err := os.MkdirTemp("", "orlog-agent-bin-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	for _, args := range [][]string{
		{"build", "-tags", "seccomp", "-o", dir + "/runc", "github.com/opencontainers/runc"},
		{"build", "-o", dir + "/", "github.com/orlog-io/orlog/cli/orlog-shim"},
		{"build", "-o", dir + "/", "github.com/containernetworking/plugins/plugins/main/bridge", "github.com/containernetworking/plugins/plugins/ipam/host-local"},
	} {
		if out, err := exec.Command("go", args...).CombinedOutput(); err != nil {
			return fmt.Errorf("go %v: %w: %s", args, err, out)
		}
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), binVar+"="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	return cmd.Run()
}

// host is a node with real containers and networks.
type host struct {
	bench
	runtime *runc.Runtime
	net     *network.Manager
	layer   string
	root    string                    // cgroup
	options Options                   // beside the parts
	logs    struct{ size, files int } // of the runtime
}

// shelf holds one image: busybox.
type shelf struct{ layer string }

func (s shelf) Get(ref string) (Image, bool, error) {
	return Image{ID: "busybox@sha256:0", Layers: []string{s.layer}, Env: []string{"PATH=/bin"}, Cmd: []string{"/bin/sh"}}, ref == "busybox:1", nil
}

func (s shelf) Pull(_ context.Context, ref string, _ [][]byte, _ func(image.Progress)) (Image, error) {
	return Image{}, fmt.Errorf("%s: not found", ref)
}

func (shelf) All() ([]image.Image, error) { return nil, nil }

func newHost(t *testing.T) *host { return newHostWith(t, nil) }

// newHostWith lets edit change the host before its agent starts.
func newHostWith(t *testing.T, edit func(*host)) *host {
	dir, err := os.MkdirTemp("", "orlog-agent-")
	if err != nil {
		t.Fatal(err)
	}
	h := &host{bench: bench{T: t, log: memlog.New(), dir: dir}, layer: filepath.Join(dir, "layer"), root: "/orlogtest" + filepath.Base(dir)}
	t.Cleanup(func() {
		h.log.Close()
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	busybox(t, h.layer)
	if edit != nil {
		edit(h)
	}
	h.up()
	t.Cleanup(h.clean)
	return h
}

func busybox(t *testing.T, layer string) {
	t.Helper()
	raw, err := os.ReadFile("/usr/bin/busybox")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{"bin", "etc", "tmp", "proc", "sys", "dev"} {
		if err := os.MkdirAll(filepath.Join(layer, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(layer, "bin/busybox"), raw, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"sh", "sleep", "cat", "echo", "id", "ls", "httpd", "hostname", "env", "touch", "kill", "true", "false", "stat", "wget", "nslookup", "mkdir", "grep", "ps", "dd",
		"mount", "chmod", "killall", "readlink", "unshare", "seq", "cut", "head", "rm", "tr", "nc", "pwd", "printf", "printenv", "ipcmk", "ipcs", "yes", "date"} {
		if err := os.Symlink("busybox", filepath.Join(layer, "bin", name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(layer, "etc/passwd"), []byte("root:x:0:0::/root:/bin/sh\nweb:x:101:102::/home/web:/bin/sh\n"), 0o644); err != nil {
		t.Fatal(err)
	}
}

// up starts the agent with everything real.
func (h *host) up() {
	h.Helper()
	bin := os.Getenv(binVar)
	ctx, cancel := context.WithCancel(context.Background())
	var err error
	if h.runtime, err = runc.New(runc.Options{Dir: h.dir + "/runc", RuncPath: bin + "/runc", ShimPath: bin + "/orlog-shim", LogMaxSize: int64(h.logs.size), LogFiles: h.logs.files}); err != nil {
		h.Fatal(err)
	}
	if h.net, err = network.New(ctx, network.Options{Dir: h.dir + "/net", PluginDir: bin, PodCIDR: netip.MustParsePrefix("10.66.0.0/24"), Bridge: "oagent0", Pool: 2}); err != nil {
		h.Fatal(err)
	}
	if h.store, err = projections.Open(h.dir+"/projection", projections.Options{}); err != nil {
		h.Fatal(err)
	}
	o := h.options
	o.NodeName, o.DataDir, o.Log, o.Store, o.CgroupRoot = "n1", h.dir+"/agent", h.log, h.store, h.root
	o.Runtime, o.Exec, o.Images, o.Network = h.runtime, execIn(h.runtime), shelf{h.layer}, podNetwork{h.net}
	o.NodeIPs, o.ClusterDNS = []string{"192.0.2.10"}, "10.96.0.10"
	h.agent, err = New(o)
	if err != nil {
		h.Fatal(err)
	}
	done, filled := make(chan error, 1), make(chan struct{})
	go func() { done <- h.agent.Run(ctx) }()
	go func() { defer close(filled); h.net.Run(ctx) }()
	h.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			h.Error(err)
		}
		<-filled
		h.runtime.Close()
		if err := errors.Join(h.store.Close(), h.net.Close()); err != nil {
			h.Error(err)
		}
	})
}

// clean removes what pods are left, whatever became of the test.
func (h *host) clean() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	boxes, err := h.runtime.Sandboxes(ctx)
	if err != nil {
		h.Error(err)
	}
	h.stop()
	bin := os.Getenv(binVar)
	r, err := runc.New(runc.Options{Dir: h.dir + "/runc", RuncPath: bin + "/runc", ShimPath: bin + "/orlog-shim"})
	if err != nil {
		h.Fatal(err)
	}
	defer r.Close()
	for _, s := range boxes {
		if err := r.CloseSandbox(ctx, s.ID); err != nil && !errors.Is(err, runc.ErrNotFound) {
			h.Error(err)
		}
	}
	volumes, _ := os.ReadDir(h.dir + "/agent/volumes")
	for _, v := range volumes {
		if err := h.agent.volumes.Teardown(v.Name()); err != nil {
			h.Error(err)
		}
	}
	n, err := network.New(ctx, network.Options{Dir: h.dir + "/net", PluginDir: bin, PodCIDR: netip.MustParsePrefix("10.66.0.0/24"), Bridge: "oagent0"})
	if err != nil {
		h.Fatal(err)
	}
	if err := errors.Join(n.Destroy(ctx), n.Close()); err != nil {
		h.Error(err)
	}
	for _, g := range []string{"besteffort", "burstable", ""} {
		for _, dir := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/*"} {
			found, _ := filepath.Glob(filepath.Join(dir, h.root, g))
			for _, f := range found {
				_ = unix.Rmdir(f) // a hierarchy that the runtime does not use has none
			}
		}
	}
}

// shell is a pod whose one container runs a script.
func shell(name, script string, edit func(*v1.Pod)) *v1.Pod {
	return pod(name, func(p *v1.Pod) {
		p.UID = types.UID("c0ffee00-0000-4000-8000-" + fmt.Sprintf("%012x", len(name)) + name)
		p.Spec.Containers = []v1.Container{{Name: "main", Image: "busybox:1", Command: []string{"/bin/sh", "-c", script}, TerminationMessagePath: "/dev/termination-log"}}
		if edit != nil {
			edit(p)
		}
	})
}

func (h *host) pid(p *v1.Pod) int {
	h.Helper()
	list, err := h.runtime.Status(context.Background(), string(p.UID))
	if err != nil || len(list) == 0 {
		h.Fatalf("status of %s: %v %v", p.Name, list, err)
	}
	return list[0].PID
}

func (h *host) logOf(p *v1.Pod, container string, attempt int) string {
	h.Helper()
	b, err := os.ReadFile(filepath.Join(h.dir, "agent/logs", p.Namespace+"_"+p.Name+"_"+string(p.UID), container, fmt.Sprint(attempt)+".log"))
	if err != nil {
		h.Fatal(err)
	}
	var out []byte
	for _, line := range bytes.SplitAfter(b, []byte("\n")) {
		if f := bytes.SplitN(line, []byte(" "), 4); len(f) == 4 {
			out = append(out, f[3]...)
		}
	}
	return string(out)
}

func TestRealPodLivesThroughAgentRestarts(t *testing.T) {
	h := newHost(t)
	h.append(events.Key{Resource: "configmaps", Namespace: "default", Name: "settings"}, "configmap",
		`{"metadata":{"name":"settings","namespace":"default","uid":"c1"},"data":{"greeting":"hello","motd":"one"}}`)
	p := shell("web", `echo "$GREETING from $IP"; cat /etc/motd/motd; hostname; mkdir -p /www; echo ok >/www/index.html; httpd -f -p 8080 -h /www & wait`, func(p *v1.Pod) {
		c := &p.Spec.Containers[0]
		c.Env = []v1.EnvVar{
			{Name: "GREETING", ValueFrom: &v1.EnvVarSource{ConfigMapKeyRef: &v1.ConfigMapKeySelector{LocalObjectReference: v1.LocalObjectReference{Name: "settings"}, Key: "greeting"}}},
			{Name: "IP", ValueFrom: &v1.EnvVarSource{FieldRef: &v1.ObjectFieldSelector{FieldPath: "status.podIP"}}},
		}
		p.Spec.Volumes = []v1.Volume{{Name: "motd", VolumeSource: v1.VolumeSource{ConfigMap: &v1.ConfigMapVolumeSource{LocalObjectReference: v1.LocalObjectReference{Name: "settings"}}}}}
		c.VolumeMounts = []v1.VolumeMount{{Name: "motd", MountPath: "/etc/motd"}}
		c.Ports = []v1.ContainerPort{{Name: "http", ContainerPort: 8080}}
		c.ReadinessProbe = &v1.Probe{ProbeHandler: v1.ProbeHandler{HTTPGet: &v1.HTTPGetAction{Path: "/index.html", Port: intstr.FromString("http")}}, PeriodSeconds: 10, TimeoutSeconds: 1}
		c.Lifecycle = &v1.Lifecycle{PreStop: &v1.LifecycleHandler{Exec: &v1.ExecAction{Command: []string{"/bin/sh", "-c", "echo bye >/proc/1/fd/1"}}}}
	})
	begun := time.Now()
	h.want(p, "bound")
	st := h.awaitReady(p)
	t.Logf("bound to ready in %v", time.Since(begun))
	if got, want := h.logOf(p, "main", 0), "hello from "+st.PodIP+"\none"; !strings.HasPrefix(got, want) || !strings.Contains(got, "web\n") {
		t.Errorf("log %q, want %q", got, want)
	}
	pid := h.pid(p)

	h.stop()
	h.up()
	h.append(events.Key{Resource: "configmaps", Namespace: "default", Name: "settings"}, "configmap",
		`{"metadata":{"name":"settings","namespace":"default","uid":"c1"},"data":{"greeting":"hello","motd":"two"}}`)
	deadline := time.Now().Add(10 * time.Second)
	for {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/root/etc/motd/motd", pid))
		if err == nil && string(b) == "two" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the volume was not updated: %q %v", b, err)
		}
		time.Sleep(10 * time.Millisecond)
	}
	if now := h.pid(p); now != pid {
		t.Errorf("pid %d after the agent's restart, was %d", now, pid)
	}

	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	st = h.await(p, "restarted", func(_ string, st *v1.PodStatus) bool {
		return st.ContainerStatuses[0].RestartCount == 1 && podReady(st)
	})
	if last := st.ContainerStatuses[0].LastTerminationState.Terminated; last == nil || last.ExitCode != 137 {
		t.Errorf("last state %+v", last)
	}

	now := metav1.NewTime(time.Now())
	grace := int64(5)
	p.DeletionTimestamp, p.DeletionGracePeriodSeconds = &now, &grace
	h.want(p, "termination-requested")
	h.await(p, "stopped", func(verb string, _ *v1.PodStatus) bool { return verb == "stopped" })
	if got := h.logOf(p, "main", 1); !strings.Contains(got, "bye\n") {
		t.Errorf("the preStop hook did not run: log %q", got)
	}
	if boxes, err := h.runtime.Sandboxes(context.Background()); err != nil || len(boxes) != 0 {
		t.Errorf("sandboxes left: %v %v", boxes, err)
	}
	if left := h.net.List(); len(left) != 0 {
		t.Errorf("networks left: %v", left)
	}
}

// logUntil waits until a container's log ends in some text, and returns the log.
func (h *host) logUntil(p *v1.Pod, container string, attempt int, end string) string {
	h.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		path := filepath.Join(h.dir, "agent/logs", p.Namespace+"_"+p.Name+"_"+string(p.UID), container, fmt.Sprint(attempt)+".log")
		if _, err := os.Stat(path); err == nil {
			if log := h.logOf(p, container, attempt); strings.HasSuffix(log, end) {
				return log
			} else if time.Now().After(deadline) {
				h.Fatalf("%s/%s: log %q, want %q at its end", p.Name, container, log, end)
			}
		} else if time.Now().After(deadline) {
			h.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// end asks for a pod's end.
func (h *host) end(p *v1.Pod, grace int64) {
	h.Helper()
	now := metav1.NewTime(time.Now())
	p.DeletionTimestamp, p.DeletionGracePeriodSeconds = &now, &grace
	h.want(p, "termination-requested")
}
