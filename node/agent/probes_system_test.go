//go:build system

package agent

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netns"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// listenIn opens a port in a pod's network namespace.
func (h *host) listenIn(path string, port int) net.Listener {
	h.Helper()
	runtime.LockOSThread() // a thread that could not be brought home ends with its goroutine
	home, err := netns.Get()
	if err != nil {
		h.Fatal(err)
	}
	defer home.Close()
	there, err := netns.GetFromPath(path)
	if err != nil {
		h.Fatal(err)
	}
	defer there.Close()
	if err := netns.Set(there); err != nil {
		h.Fatal(err)
	}
	l, listening := net.Listen("tcp", fmt.Sprintf(":%d", port))
	if err := netns.Set(home); err != nil {
		h.Fatal(err)
	}
	runtime.UnlockOSThread()
	if listening != nil {
		h.Fatal(listening)
	}
	return l
}

// serveGRPC serves the gRPC health protocol in a pod's network, as the pod's program would.
func (h *host) serveGRPC(p *v1.Pod, port int) *health.Server {
	h.Helper()
	boxes, err := h.runtime.Sandboxes(context.Background())
	if err != nil {
		h.Fatal(err)
	}
	for _, b := range boxes {
		if b.ID != string(p.UID) {
			continue
		}
		s, verdict := grpc.NewServer(), health.NewServer()
		grpc_health_v1.RegisterHealthServer(s, verdict)
		l := h.listenIn(b.NetNS, port)
		go s.Serve(l)
		h.Cleanup(s.Stop)
		return verdict
	}
	h.Fatalf("pod %s has no sandbox", p.Name)
	return nil
}

// in is the path of a file as the newest container of a pod has it.
func (h *host) in(p *v1.Pod, path string) string {
	return fmt.Sprintf("/proc/%d/root%s", h.pid(p), path)
}

// quick is a probe that asks every second and believes the first answer.
func quick(handler v1.ProbeHandler) *v1.Probe {
	grace := int64(1)
	return &v1.Probe{ProbeHandler: handler, PeriodSeconds: 1, TimeoutSeconds: 1, FailureThreshold: 1, SuccessThreshold: 1, TerminationGracePeriodSeconds: &grace}
}

// Each kind of probe, in each role: a program that stops answering becomes unready, or is restarted, and one that does
// not come up in time is restarted too.
func TestRealProbes(t *testing.T) {
	h := newHost(t)
	const web = `trap "exit 0" TERM; mkdir -p /www; echo ok >/www/ok; httpd -f -p 8080 -h /www & while :; do sleep 0.2; done`
	http := v1.ProbeHandler{HTTPGet: &v1.HTTPGetAction{Path: "/ok", Port: intstr.FromInt32(8080)}}
	tcp := v1.ProbeHandler{TCPSocket: &v1.TCPSocketAction{Port: intstr.FromInt32(8080)}}
	exec := v1.ProbeHandler{Exec: &v1.ExecAction{Command: []string{"cat", "/www/ok"}}}
	dead := v1.ProbeHandler{TCPSocket: &v1.TCPSocketAction{Port: intstr.FromInt32(9)}}
	service := "shop"
	asked := v1.ProbeHandler{GRPC: &v1.GRPCAction{Port: 9090, Service: &service}}
	role := map[string]func(*v1.Container, v1.ProbeHandler){
		"ready": func(c *v1.Container, x v1.ProbeHandler) { c.ReadinessProbe = quick(x) },
		"live": func(c *v1.Container, x v1.ProbeHandler) {
			c.LivenessProbe = quick(x)
			c.LivenessProbe.InitialDelaySeconds = 2 // until the program has opened its port
		},
		"start": func(c *v1.Container, x v1.ProbeHandler) {
			c.StartupProbe, c.ReadinessProbe = quick(x), quick(http)
			c.StartupProbe.FailureThreshold = 2
		},
	}
	probed := func(role func(*v1.Container, v1.ProbeHandler), name string, x v1.ProbeHandler) *v1.Pod {
		p := shell(name, web, func(p *v1.Pod) {
			p.UID += "-1"
			role(&p.Spec.Containers[0], x)
		})
		h.want(p, "bound")
		return p
	}
	remove := func(p *v1.Pod) {
		t.Helper()
		if err := os.Remove(h.in(p, "/www/ok")); err != nil {
			t.Fatal(err)
		}
	}
	restore := func(p *v1.Pod) {
		t.Helper()
		if err := os.WriteFile(h.in(p, "/www/ok"), []byte("ok\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	killWeb := func(p *v1.Pod) {
		t.Helper()
		if _, _, err := h.agent.o.Exec(t.Context(), string(p.UID), idOf(h.awaitReady(p)), []string{"sh", "-c", "until killall httpd; do sleep 0.1; done"}); err != nil {
			t.Fatal(err)
		}
	}
	type trial struct {
		pod         *v1.Pod
		spoil, mend func(*v1.Pod)
	}
	unready := []trial{{probed(role["ready"], "ready-http", http), remove, restore}, {probed(role["ready"], "ready-exec", exec), remove, restore}, {probed(role["ready"], "ready-tcp", tcp), killWeb, nil}}
	dies := []trial{{probed(role["live"], "live-http", http), remove, nil}, {probed(role["live"], "live-exec", exec), remove, nil}, {probed(role["live"], "live-tcp", tcp), killWeb, nil}}
	begins, never := probed(role["start"], "starts", tcp), probed(role["start"], "never-starts", dead)

	rpcReady := probed(role["ready"], "ready-grpc", asked)
	h.await(rpcReady, "running", func(_ string, st *v1.PodStatus) bool { return st.Phase == v1.PodRunning })
	verdict := h.serveGRPC(rpcReady, 9090)
	verdict.SetServingStatus(service, grpc_health_v1.HealthCheckResponse_SERVING)
	serving := func(s grpc_health_v1.HealthCheckResponse_ServingStatus) func(*v1.Pod) {
		return func(*v1.Pod) { verdict.SetServingStatus(service, s) }
	}
	unready = append(unready, trial{rpcReady, serving(grpc_health_v1.HealthCheckResponse_NOT_SERVING), serving(grpc_health_v1.HealthCheckResponse_SERVING)})

	for _, x := range append(unready, dies...) {
		h.awaitReady(x.pod)
		if x.pod != rpcReady {
			h.awaitFile(x.pod, "/www/ok", "ok\n")
		}
		x.spoil(x.pod)
	}
	for _, x := range unready {
		st := h.await(x.pod, "unready", func(_ string, st *v1.PodStatus) bool { return !podReady(st) })
		if cs := st.ContainerStatuses[0]; st.Phase != v1.PodRunning || cs.Ready || cs.RestartCount != 0 || cs.Started == nil || !*cs.Started {
			t.Errorf("%s: %s %+v", x.pod.Name, st.Phase, cs)
		}
		if x.mend != nil {
			x.mend(x.pod)
			h.awaitReady(x.pod)
		}
	}
	for _, x := range dies {
		st := h.await(x.pod, "restarted", func(_ string, st *v1.PodStatus) bool {
			return st.ContainerStatuses[0].RestartCount == 1 && podReady(st)
		})
		if last := st.ContainerStatuses[0].LastTerminationState.Terminated; last == nil || last.ExitCode != 0 {
			t.Errorf("%s: last %+v", x.pod.Name, last)
		}
	}
	h.awaitReady(begins)
	st := h.await(never, "restarted", func(_ string, st *v1.PodStatus) bool { return st.ContainerStatuses[0].RestartCount >= 1 })
	if cs := st.ContainerStatuses[0]; cs.Ready || cs.Started != nil && *cs.Started {
		t.Errorf("a program that never starts: %+v", cs)
	}
}

// A gRPC service that says it is not serving has its container restarted.
func TestRealGRPCLiveness(t *testing.T) {
	h := newHost(t)
	p := shell("rpc", `trap "exit 0" TERM; while :; do sleep 0.2; done`, func(p *v1.Pod) {
		c := &p.Spec.Containers[0]
		c.LivenessProbe = quick(v1.ProbeHandler{GRPC: &v1.GRPCAction{Port: 9090}})
		c.LivenessProbe.FailureThreshold = 3 // until the test serves
	})
	h.want(p, "bound")
	h.awaitReady(p)
	verdict := h.serveGRPC(p, 9090)
	time.Sleep(3 * time.Second) // longer than it would live without
	if n := h.awaitReady(p).ContainerStatuses[0].RestartCount; n != 0 {
		t.Fatalf("restarted %d times while it was serving", n)
	}
	verdict.Shutdown()
	h.await(p, "restarted", func(_ string, st *v1.PodStatus) bool { return st.ContainerStatuses[0].RestartCount == 1 })
}

// Hooks by exec and by HTTP, before and after a container's life, and one that fails.
func TestRealHooks(t *testing.T) {
	h := newHost(t)
	var seen [2]atomic.Int32
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-From") == "hook" {
			seen[map[string]int{"/post": 0, "/pre": 1}[r.URL.Path]].Add(1)
		}
	})}
	go server.Serve(l)
	defer server.Close()
	get := func(path string) *v1.LifecycleHandler {
		return &v1.LifecycleHandler{HTTPGet: &v1.HTTPGetAction{Host: "127.0.0.1", Path: path, Port: intstr.FromInt32(int32(l.Addr().(*net.TCPAddr).Port)),
			HTTPHeaders: []v1.HTTPHeader{{Name: "X-From", Value: "hook"}}}}
	}
	run := func(script string) *v1.LifecycleHandler {
		return &v1.LifecycleHandler{Exec: &v1.ExecAction{Command: []string{"/bin/sh", "-c", script}}}
	}
	const waits = `trap "echo term; exit 0" TERM; while :; do sleep 0.1; done`
	hooked := func(name string, l v1.Lifecycle) *v1.Pod {
		p := shell(name, waits, func(p *v1.Pod) { p.Spec.Containers[0].Lifecycle = &l })
		h.want(p, "bound")
		return p
	}
	byExec := hooked("by-exec", v1.Lifecycle{PostStart: run("echo began >/proc/1/fd/1"), PreStop: run("echo ends >/proc/1/fd/1; sleep 0.3")})
	byHTTP := hooked("by-http", v1.Lifecycle{PostStart: get("/post"), PreStop: get("/pre")})
	fails := hooked("hook-that-fails", v1.Lifecycle{PostStart: run("echo sorry; exit 4")})
	h.awaitReady(byExec)
	h.awaitReady(byHTTP)
	if seen[0].Load() != 1 {
		t.Error("ready without its postStart hook")
	}
	for _, p := range []*v1.Pod{byExec, byHTTP} {
		h.remove(p, 10)
	}
	log := h.logOf(byExec, "main", 0)
	if want := "began\nends\nterm\n"; log != want {
		t.Errorf("log %q, want %q", log, want)
	}
	if seen[1].Load() != 1 {
		t.Error("stopped without its preStop hook")
	}
	st := h.await(fails, "restarted", func(_ string, st *v1.PodStatus) bool { return st.ContainerStatuses[0].RestartCount >= 1 })
	if podReady(st) {
		t.Errorf("ready although its postStart hook fails: %+v", st.ContainerStatuses[0])
	}
}

// remove asks for a pod's end and waits for it.
func (h *host) remove(p *v1.Pod, grace int64) *v1.PodStatus {
	h.Helper()
	h.end(p, grace)
	return h.await(p, "stopped", func(verb string, _ *v1.PodStatus) bool { return verb == "stopped" })
}

// A container's log is rotated at the size that is set, and as many files stay as are.
func TestRealLogRotation(t *testing.T) {
	h := newHostWith(t, func(h *host) { h.logs.size, h.logs.files = 4<<10, 3 })
	p := shell("talks", `seq 1 20000; sleep 1000`, nil)
	h.want(p, "bound")
	h.awaitReady(p)
	dir := filepath.Join(h.dir, "agent/logs", p.Namespace+"_"+p.Name+"_"+string(p.UID), "main")
	deadline := time.Now().Add(10 * time.Second)
	for {
		files, err := filepath.Glob(dir + "/0.log*")
		if err != nil {
			t.Fatal(err)
		}
		var all string
		for _, f := range files {
			b, err := os.ReadFile(f)
			if os.IsNotExist(err) {
				continue // rotated away meanwhile
			}
			if err != nil {
				t.Fatal(err)
			}
			all += string(b)
		}
		// A folder that is read during a rotation may show a file under both its names.
		ended := strings.Contains(all, " F 20000\n")
		if ended && len(files) <= 3 && len(all) <= 3*(4<<10+64<<10) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the end came: %v; %d bytes in %v, want at most 3 files", ended, len(all), files)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
