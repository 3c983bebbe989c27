package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	v1 "k8s.io/api/core/v1"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/node/agent/ladder"
	"github.com/orlog-io/orlog/node/runc"
	"github.com/orlog-io/orlog/node/stream"
	"github.com/orlog-io/orlog/projections"
)

// public is what other goroutines may know of a worker's record.
type public struct {
	netNS      string
	connected  bool
	containers map[string]attempt
}

// attempt is the newest attempt of a container: its number and ID, and why there is none.
type attempt struct {
	id      string
	number  int
	waiting string
}

// publish lets other goroutines see the record as it is now.
func (w *worker) publish() {
	p := public{netNS: w.rec.NetNS, connected: w.rec.Connected, containers: map[string]attempt{}}
	for name, c := range w.rec.Containers {
		at := attempt{id: c.ID, number: c.Attempt}
		if c.Trouble != nil {
			at.waiting = c.Trouble.Reason
		}
		p.containers[name] = at
	}
	w.mu.Lock()
	w.public = p
	w.mu.Unlock()
}

// find returns the pod of a name that is on this node.
func (a *Agent) find(namespace, pod string) (*v1.Pod, public, error) {
	var found *v1.Pod
	var known public
	for _, w := range a.all() {
		if w.key.Namespace != namespace || w.key.Name != pod {
			continue
		}
		w.mu.Lock()
		if found == nil || !w.gone { // a pod that is being replaced counts only where nothing has replaced it
			found, known = w.seen.Pod, w.public
		}
		w.mu.Unlock()
	}
	if found == nil {
		return nil, known, fmt.Errorf("pod %s/%s is not on this node: %w", namespace, pod, stream.ErrNotFound)
	}
	return found, known, nil
}

// Lookup finds a container of a pod for people's requests: its newest attempt, or the one before. Errors match
// stream.ErrNotFound where there is no such container here; else they say what it waits for.
func (a *Agent) Lookup(namespace, pod, container string, previous bool) (sandboxID, containerID, logPath string, err error) {
	p, known, err := a.find(namespace, pod)
	if err != nil {
		return "", "", "", err
	}
	if ladder.FindContainer(p, container) == nil {
		return "", "", "", fmt.Errorf("container %s is not valid for pod %s: %w", container, pod, stream.ErrNotFound)
	}
	at := known.containers[container]
	if at.id == "" {
		reason := at.waiting
		if reason == "" {
			reason = "ContainerCreating"
		}
		return "", "", "", fmt.Errorf("container %q in pod %q is waiting to start: %s", container, pod, reason)
	}
	uid := string(p.UID)
	if previous {
		if at.number == 0 {
			return "", "", "", fmt.Errorf("previous terminated container %q in pod %q not found", container, pod)
		}
		at.number--
		at.id = containerIDOf(uid, container, at.number)
	}
	return uid, at.id, a.logPath(namespace, pod, uid, container, at.number), nil
}

// PodNetNS is the network namespace of a pod, "" for the node's own.
func (a *Agent) PodNetNS(namespace, pod string) (string, error) {
	p, known, err := a.find(namespace, pod)
	if err != nil {
		return "", err
	}
	if !known.connected {
		return "", fmt.Errorf("pod %s/%s has no network yet, or no longer", namespace, pod)
	}
	if p.Spec.HostNetwork {
		return "", nil
	}
	return known.netNS, nil
}

// Pods lists the pods that the node has to do with, as the projection has them.
func (a *Agent) Pods() []v1.Pod {
	v := a.o.Store.Now()
	defer v.Close()
	var out []v1.Pod
	for s, err := range v.List(projections.Selector{Resource: "pods"}, "") {
		var p v1.Pod
		if err != nil || json.Unmarshal(s.Object, &p) != nil || p.Spec.NodeName != a.o.NodeName {
			continue
		}
		out = append(out, p)
	}
	return out
}

// serve answers the requests that come through the tunnel, until ctx ends.
func (a *Agent) serve(ctx context.Context, r *runc.Runtime) error {
	handler := http.NewServeMux()
	handler.Handle("/", stream.New(stream.Options{Runtime: r, Lookup: a.Lookup, PodNetNS: a.PodNetNS, Pods: a.Pods, Logger: a.log}))
	handler.HandleFunc("GET /stats/summary", a.serveSummary)
	handler.Handle("GET /metrics", a.serveMetrics())
	for ctx.Err() == nil {
		listener, err := a.o.Tunnel.Listen(a.o.NodeName)
		if err != nil {
			a.log.Warn("the tunnel to the gateway cannot be opened, trying again", events.LogError, err)
			sleep(ctx, time.Second)
			continue
		}
		server := &http.Server{Handler: handler, ReadHeaderTimeout: 30 * time.Second}
		stop := context.AfterFunc(ctx, func() { server.Close() })
		err = server.Serve(listener)
		stop()
		if ctx.Err() == nil && !errors.Is(err, http.ErrServerClosed) {
			a.log.Warn("the tunnel to the gateway closed, opening it again", events.LogError, err)
			sleep(ctx, time.Second)
		}
	}
	return nil
}
