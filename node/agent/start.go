package agent

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"

	"github.com/orlog-io/orlog/node/agent/ladder"
	"github.com/orlog-io/orlog/node/agent/spec"
	"github.com/orlog-io/orlog/node/runc"
	"github.com/orlog-io/orlog/node/volume/downward"
)

// containerIDOf names an attempt of a container: always the same name for the same attempt, so that a start which
// was interrupted finds what it had begun.
func containerIDOf(podUID, name string, attempt int) string {
	sum := sha256.Sum256([]byte(podUID + "/" + name + "/" + strconv.Itoa(attempt)))
	return hex.EncodeToString(sum[:])
}

func (w *worker) logPath(container string, attempt int) string {
	return w.a.logPath(w.key.Namespace, w.key.Name, w.uid, container, attempt)
}

func (a *Agent) logPath(namespace, name, uid, container string, attempt int) string {
	return filepath.Join(a.logDir(namespace, name, uid), container, strconv.Itoa(attempt)+".log")
}

// logDir is where a pod's logs are; pruneLogs knows that it ends in the uid.
func (a *Agent) logDir(namespace, name, uid string) string {
	return filepath.Join(a.o.LogDir, namespace+"_"+name+"_"+uid)
}

// startContainer runs the next attempt of a container.
func (w *worker) startContainer(ctx context.Context, pod *v1.Pod, name string) ladder.Outcome {
	pod = w.withAllocated(pod, false)
	rec, c := w.rec.Container(name), ladder.FindContainer(pod, name)
	attempt := rec.NextAttempt()
	o := ladder.Outcome{Image: c.Image, Attempt: attempt, ID: containerIDOf(w.uid, name, attempt)}
	fail := func(err error, reason string) ladder.Outcome {
		o.Err, o.Reason = err, reason
		if ctx.Err() == nil {
			w.containerEvent(pod, name, v1.EventTypeWarning, "Failed", "Error: "+err.Error())
		}
		return o
	}
	w.a.imageUse.RLock() // until the layers are mounted nobody can see that they are used
	defer w.a.imageUse.RUnlock()
	container, err := w.containerSpec(pod, c, attempt, o.ID)
	if errors.Is(err, errImageGone) {
		o.Lost = true
	}
	if err != nil {
		return fail(err, ladder.ReasonConfigError)
	}
	o.User = userOf(container)
	if rec.ID != "" {
		if err := w.a.o.Runtime.Remove(ctx, w.uid, rec.ID); err != nil && !errors.Is(err, runc.ErrNotFound) {
			return fail(err, "CreateContainerError")
		}
		delete(w.instances, rec.ID)
	}
	if err := w.widen(ctx, pod, rec); err != nil {
		return fail(err, "CreateContainerError")
	}
	st, err := w.a.o.Runtime.Run(ctx, w.uid, container)
	var start *runc.StartError
	switch {
	case errors.As(err, &start):
		o.Ended = true
		return fail(err, ladder.ReasonStartError)
	case errors.Is(err, runc.ErrShimGone), errors.Is(err, runc.ErrNotFound):
		w.rec.Open = false // opened anew, then tried again
		return fail(err, "CreateContainerError")
	case err != nil:
		return fail(err, "CreateContainerError")
	}
	in := instanceOf(st)
	w.instances[o.ID], o.Instance = in, &in
	w.containerEvent(pod, name, v1.EventTypeNormal, "Created", "Container created")
	w.containerEvent(pod, name, v1.EventTypeNormal, "Started", "Container started")
	return o
}

func userOf(c runc.Container) *v1.ContainerUser {
	u := &v1.LinuxContainerUser{UID: int64(c.UID), GID: int64(c.GID)}
	for _, g := range c.Groups {
		u.SupplementalGroups = append(u.SupplementalGroups, int64(g))
	}
	return &v1.ContainerUser{Linux: u}
}

var errImageGone = errors.New("it was removed since it was pulled")

// containerSpec is everything that the runtime needs to know.
func (w *worker) containerSpec(pod *v1.Pod, c *v1.Container, attempt int, id string) (runc.Container, error) {
	var out runc.Container
	img, here, err := w.a.o.Images.Get(c.Image)
	if err == nil && !here {
		err = fmt.Errorf("image %q: %w", c.Image, errImageGone)
	}
	if err != nil {
		return out, err
	}
	services, err := w.a.sources.services(pod.Namespace)
	if err != nil {
		return out, err
	}
	env, err := spec.Env(c, w.fields(pod), w.a.sources, spec.ServiceVars(pod, services))
	if err != nil {
		return out, err
	}
	user, err := spec.ResolveUser(pod, c, img.User, img.Layers)
	if err != nil {
		return out, err
	}
	host, _ := spec.Hostname(pod, w.a.machine.hostname, w.a.o.ClusterDomain)
	out = runc.Container{ID: id, Name: c.Name, Attempt: attempt, Layers: img.Layers,
		Args: spec.Args(c, img.Entrypoint, img.Cmd, env), Env: spec.Strings(append(slices.Clip(img.Env), "HOSTNAME="+host), env), Cwd: c.WorkingDir,
		UID: user.UID, GID: user.GID, Groups: user.Groups,
		Resources:   limitsOf(spec.ContainerLimits(c)),
		Security:    securityOf(pod, c, w.a.o.DataDir, w.a.o.SeccompDefault),
		OOMScoreAdj: spec.OOMScoreAdj(pod, c, w.a.machine.memory),
		TTY:         c.TTY, Stdin: c.Stdin, StdinOnce: c.StdinOnce, LogPath: w.logPath(c.Name, attempt),
		Labels: map[string]string{"io.kubernetes.container.name": c.Name, "io.kubernetes.pod.uid": w.uid}}
	if target := targetOf(pod, c.Name); target != "" {
		if out.PIDOf = w.rec.Container(target).ID; out.PIDOf == "" {
			return out, &spec.ConfigError{Err: fmt.Errorf("targetContainerName %q: it is not running", target)}
		}
	}
	if out.Cwd == "" {
		out.Cwd = img.Cwd
	}
	if len(out.Args) == 0 {
		return out, &spec.ConfigError{Err: fmt.Errorf("no command specified: neither container %q nor its image has one", c.Name)}
	}
	if err := os.MkdirAll(filepath.Dir(out.LogPath), 0o755); err != nil {
		return out, err
	}
	out.Mounts, err = w.mounts(pod, c, attempt)
	return out, err
}

// targetOf is the container whose processes an ephemeral one shall see, "" for none.
func targetOf(pod *v1.Pod, name string) string {
	for i := range pod.Spec.EphemeralContainers {
		if e := &pod.Spec.EphemeralContainers[i]; e.Name == name {
			return e.TargetContainerName
		}
	}
	return ""
}

func (w *worker) fields(pod *v1.Pod) downward.Fields {
	return downward.Fields{Pod: pod, PodIPs: w.rec.IPs, HostIPs: w.a.o.NodeIPs, NodeName: w.a.o.NodeName, Allocatable: w.a.machine.allocatable()}
}

// stopSignal is the signal that ends a container: its own, its image's, or SIGTERM.
func (w *worker) stopSignal(pod *v1.Pod, name string) syscall.Signal {
	c := ladder.FindContainer(pod, name)
	text := ""
	if c != nil && c.Lifecycle != nil && c.Lifecycle.StopSignal != nil {
		text = string(*c.Lifecycle.StopSignal)
	} else if c != nil {
		if img, here, err := w.a.o.Images.Get(c.Image); err == nil && here {
			text = img.StopSignal
		}
	}
	if n, err := strconv.Atoi(text); err == nil && n > 0 && n < 65 {
		return syscall.Signal(n)
	}
	if sig := unix.SignalNum(text); sig != 0 {
		return sig
	}
	return syscall.SIGTERM
}

// exited gathers how an attempt ended.
func (w *worker) exited(pod *v1.Pod, name string) ladder.Outcome {
	rec, c := w.rec.Container(name), ladder.FindContainer(pod, name)
	w.a.probes.Stop(w.uid, name)
	for _, hook := range []ladder.Kind{ladder.PostStart, ladder.PreStop} {
		if cancel := w.busy[ladder.Step{Kind: hook, Container: name}.Op()]; cancel != nil {
			cancel()
		}
	}
	var o ladder.Outcome
	in, known := w.instances[rec.ID]
	if !known {
		return o
	}
	o.Instance = &in
	message, err := terminationMessage(c, w.messagePath(name, rec.Attempt), w.logPath(name, rec.Attempt), in.ExitCode != 0)
	if err != nil {
		w.log("reading the termination message", err)
	}
	o.Message = message
	return o
}

// hook runs a lifecycle handler.
func (w *worker) hook(ctx context.Context, pod *v1.Pod, c *v1.Container, id string, h *v1.LifecycleHandler, what string) error {
	err := runHook(ctx, h, w.place(c, id))
	if err != nil && ctx.Err() == nil {
		w.containerEvent(pod, c.Name, v1.EventTypeWarning, "Failed"+what+"Hook", what+"Hook failed: "+err.Error())
	}
	return err
}
