package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	v1 "k8s.io/api/core/v1"

	"github.com/orlog-io/orlog/node/agent/ladder"
	"github.com/orlog-io/orlog/node/agent/spec"
	"github.com/orlog-io/orlog/node/probe"
	"github.com/orlog-io/orlog/node/runc"
)

// perform does one step and moves the record by what it came to. Background steps are only begun.
func (w *worker) perform(ctx context.Context, s ladder.Situation, step ladder.Step) {
	if step.Background() {
		w.begun(ctx, s, step)
		return
	}
	began := time.Now()
	w.waited = 0
	var o ladder.Outcome
	switch step.Kind {
	case ladder.Admit:
		o = w.a.admit(s.Pod)
		if o.Reject != nil {
			w.event(v1.EventTypeWarning, o.Reject.Reason, o.Reject.Message)
		}
	case ladder.Connect:
		o = w.starting(ctx, func() ladder.Outcome { return w.connect(ctx, s.Pod) })
	case ladder.Open:
		o = w.starting(ctx, func() ladder.Outcome { return w.open(ctx, s.Pod) })
	case ladder.Mount:
		o = w.starting(ctx, func() ladder.Outcome { return w.mount(ctx, s.Pod) })
	case ladder.Start:
		o = w.starting(ctx, func() ladder.Outcome { return w.startContainer(ctx, s.Pod, step.Container) })
	case ladder.Allocate:
		o = w.a.allocate(s.Pod)
	case ladder.Resize:
		o = w.resize(ctx, s.Pod, step.Container)
	case ladder.Exited:
		o = w.exited(s.Pod, step.Container)
	case ladder.Doom:
		w.containerEvent(s.Pod, step.Container, v1.EventTypeNormal, "Killing", step.Message)
	case ladder.Stopping:
		w.stopping(step)
	case ladder.Term:
		o.Err = w.signal(ctx, step.Container, w.stopSignal(s.Pod, step.Container))
	case ladder.KillNow:
		o.Err = w.signal(ctx, step.Container, syscall.SIGKILL)
	case ladder.Teardown:
		o = w.teardown(ctx)
	}
	if ctx.Err() != nil {
		return // the agent ends: whatever failed, failed because of that
	}
	if step.Kind == ladder.Term || step.Kind == ladder.KillNow {
		// A container that cannot be signalled has ended, or its shim has: the runtime knows.
		if o.Err != nil {
			w.log("signalling", o.Err)
			w.runtimeNews()
		}
	}
	w.stepped(step, began, w.waited, o.Err)
	w.rec.Did(step, o, time.Now())
	w.save()
	w.started(s.Pod, step, o)
	if step.Kind == ladder.Finish {
		w.reportStopped(s)
	}
}

// starting performs a step while holding one of the node's few start tokens: more at once only adds latency.
func (w *worker) starting(ctx context.Context, f func() ladder.Outcome) ladder.Outcome {
	asked := time.Now()
	select {
	case w.a.starts <- struct{}{}:
	case <-ctx.Done():
		return ladder.Outcome{Err: ctx.Err()}
	}
	defer func() { <-w.a.starts }()
	w.waited = time.Since(asked)
	w.a.o.metrics.queued.Observe(w.waited.Seconds())
	return f()
}

// begun begins a background step.
func (w *worker) begun(ctx context.Context, s ladder.Situation, step ladder.Step) {
	ctx, cancel := context.WithCancel(ctx)
	w.busy[step.Op()] = cancel
	id, imageID := "", ""
	if step.Container != "" {
		c := w.rec.Container(step.Container)
		id, imageID = c.ID, c.ImageID
	}
	image := ladder.FindContainer(s.Pod, step.Container)
	w.a.wg.Go(func() {
		defer cancel()
		began := time.Now()
		var o ladder.Outcome
		switch step.Kind {
		case ladder.Fetch:
			o = w.fetch(ctx, s.Pod)
		case ladder.Pull:
			o = w.pull(ctx, s.Pod, image, imageID)
		case ladder.PostStart:
			step.Grace = graceOf(s.Pod)
			o.Err = w.hook(ctx, s.Pod, image, id, image.Lifecycle.PostStart, "PostStart")
		case ladder.PreStop:
			limited, done := context.WithTimeout(ctx, step.Grace)
			o.Err = w.hook(limited, s.Pod, image, id, image.Lifecycle.PreStop, "PreStop")
			done()
		}
		if ctx.Err() == nil || o.Err == nil {
			w.stepped(step, began, 0, o.Err)
		}
		w.finish(finished{step, id, o})
	})
}

func graceOf(pod *v1.Pod) time.Duration {
	if g := pod.Spec.TerminationGracePeriodSeconds; g != nil {
		return time.Duration(max(*g, 1)) * time.Second
	}
	return v1.DefaultTerminationGracePeriodSeconds * time.Second
}

func (w *worker) connect(ctx context.Context, pod *v1.Pod) ladder.Outcome {
	if pod.Spec.HostNetwork {
		return ladder.Outcome{IPs: w.a.o.NodeIPs}
	}
	at, err := w.a.o.Network.Setup(ctx, w.uid, pod.Namespace, pod.Name)
	if err != nil {
		w.event(v1.EventTypeWarning, "FailedCreatePodSandBox", "Failed to create pod sandbox: "+err.Error())
		return ladder.Outcome{Err: err, Reason: "FailedCreatePodSandBox"}
	}
	o := ladder.Outcome{NetNS: at.NetNS}
	for _, ip := range at.IPs {
		o.IPs = append(o.IPs, ip.String())
	}
	return o
}

func (w *worker) open(ctx context.Context, pod *v1.Pod) ladder.Outcome {
	host, _ := spec.Hostname(pod, w.a.machine.hostname, w.a.o.ClusterDomain)
	limits := spec.PodLimits(w.withAllocated(pod, false))
	box := runc.Sandbox{ID: w.uid, Namespace: pod.Namespace, Name: pod.Name, Hostname: host, NetNS: w.rec.NetNS,
		CgroupParent: spec.CgroupParent(w.a.o.CgroupRoot, pod), LogDir: w.logDir(), HostPID: pod.Spec.HostPID, HostIPC: pod.Spec.HostIPC,
		ShareProcessNamespace: pod.Spec.ShareProcessNamespace != nil && *pod.Spec.ShareProcessNamespace,
		Labels:                map[string]string{"io.kubernetes.pod.uid": w.uid, "io.kubernetes.pod.namespace": pod.Namespace, "io.kubernetes.pod.name": pod.Name},
		Resources:             limitsOf(limits)}
	if sc := pod.Spec.SecurityContext; sc != nil && len(sc.Sysctls) > 0 {
		box.Sysctls = map[string]string{}
		for _, s := range sc.Sysctls {
			box.Sysctls[sysctlName(s.Name)] = s.Value
		}
	}
	err := w.a.runnable(pod)
	if err == nil {
		err = w.a.o.Runtime.OpenSandbox(ctx, box)
	}
	if err == nil {
		err = w.writeEtc(pod)
	}
	if err != nil {
		w.event(v1.EventTypeWarning, "FailedCreatePodSandBox", "Failed to create pod sandbox: "+err.Error())
		return ladder.Outcome{Err: err, Reason: "FailedCreatePodSandBox"}
	}
	return ladder.Outcome{}
}

func (w *worker) logDir() string { return w.a.logDir(w.key.Namespace, w.key.Name, w.uid) }

// writeEtc writes the files that all containers of the pod share.
func (w *worker) writeEtc(pod *v1.Pod) error {
	host, domain := spec.Hostname(pod, w.a.machine.hostname, w.a.o.ClusterDomain)
	nodeHosts, err := os.ReadFile("/etc/hosts")
	if err != nil && pod.Spec.HostNetwork {
		return err
	}
	nodeDNS, err := os.ReadFile(w.a.o.ResolvConf)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("ResolvConf: %w", err)
	}
	dns := spec.PodDNS(pod, w.a.o.ClusterDNS, w.a.o.ClusterDomain, spec.ParseResolv(string(nodeDNS)))
	dir := filepath.Join(w.a.records.podDir(w.uid), "etc")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for name, content := range map[string][]byte{"hosts": spec.Hosts(pod, w.rec.IPs, host, domain, nodeHosts),
		"resolv.conf": []byte(dns.String()), "hostname": []byte(host + "\n")} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			return err
		}
	}
	return nil
}

func (w *worker) mount(ctx context.Context, pod *v1.Pod) ladder.Outcome {
	if slices.ContainsFunc(pod.Spec.Volumes, func(v v1.Volume) bool { return v.Image != nil }) { // as in startContainer
		w.a.imageUse.RLock()
		defer w.a.imageUse.RUnlock()
	}
	if err := w.a.volumes.Setup(ctx, pod); err != nil {
		w.event(v1.EventTypeWarning, "FailedMount", err.Error())
		return ladder.Outcome{Err: err, Reason: "FailedMount"}
	}
	w.refreshAt = time.Now() // finds out when tokens age
	return ladder.Outcome{}
}

// stopping ends what is under way to start the pod.
func (w *worker) stopping(step ladder.Step) {
	for _, cancel := range w.busy {
		cancel()
	}
	w.a.probes.Drain(w.uid, "")
	if step.Reason == ladder.StopEvicted || step.Reason == ladder.StopDeadline {
		w.event(v1.EventTypeWarning, step.Reason, step.Message)
	}
}

func (w *worker) signal(ctx context.Context, name string, sig syscall.Signal) error {
	err := w.a.o.Runtime.Signal(ctx, w.uid, w.rec.Container(name).ID, sig)
	if errors.Is(err, runc.ErrNotFound) || errors.Is(err, runc.ErrNotRunning) {
		w.runtimeNews()
		return nil
	}
	return err
}

// teardown takes away sandbox, volumes and network. What is gone already is fine.
func (w *worker) teardown(ctx context.Context) ladder.Outcome {
	w.a.probes.Stop(w.uid, "")
	w.endRefresh()
	if err := w.a.o.Runtime.CloseSandbox(ctx, w.uid); err != nil && !errors.Is(err, runc.ErrNotFound) {
		return ladder.Outcome{Err: fmt.Errorf("closing the sandbox: %w", err), Reason: "FailedKillPod"}
	}
	if err := w.a.volumes.Teardown(w.uid); err != nil {
		return ladder.Outcome{Err: err, Reason: "FailedUnmount"}
	}
	if err := w.a.o.Network.Teardown(ctx, w.uid); err != nil {
		return ladder.Outcome{Err: err, Reason: "FailedKillPod"}
	}
	return ladder.Outcome{}
}

// forget drops what is left of a pod whose object is gone. It reports false where that failed and is to be tried
// again.
func (w *worker) forget(ctx context.Context) bool {
	for _, err := range []error{os.RemoveAll(w.logDir()), w.a.records.remove(w.uid)} {
		if err != nil {
			w.log("forgetting", err)
			sleep(ctx, time.Second)
			return false
		}
	}
	w.a.dismiss(w)
	return true
}

// look asks the runtime what runs.
func (w *worker) look(ctx context.Context) {
	list, err := w.a.o.Runtime.Status(ctx, w.uid)
	switch {
	case errors.Is(err, runc.ErrNotFound):
		if w.rec.Open {
			w.rec.Open = false // made anew where the pod goes on
			w.save()
		}
	case err != nil:
		if ctx.Err() == nil {
			w.log("asking the runtime", err)
		}
		w.retryAt = time.Now().Add(time.Second)
		return
	}
	w.blind = false
	w.instances = map[string]ladder.Instance{}
	for _, st := range list {
		w.instances[st.ID] = instanceOf(st)
	}
}

func instanceOf(st runc.Status) ladder.Instance {
	return ladder.Instance{ID: st.ID, Running: st.State == runc.Running, Exited: st.State == runc.Exited, StartedAt: st.StartedAt, FinishedAt: st.FinishedAt,
		ExitCode: int32(st.ExitCode), Signal: int32(st.Signal), OOMKilled: st.OOMKilled, Message: st.Message}
}

func (w *worker) place(c *v1.Container, id string) probe.Place {
	p := probe.Place{Container: c, Exec: func(ctx context.Context, command []string) (int, string, error) {
		return w.a.o.Exec(ctx, w.uid, id, command)
	}}
	if len(w.rec.IPs) > 0 {
		p.IP = w.rec.IPs[0]
	}
	return p
}
