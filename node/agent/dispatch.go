package agent

import (
	"context"
	"encoding/json"
	"errors"

	v1 "k8s.io/api/core/v1"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/projections"
)

// refs tells which pods refer to a configMap or secret, by key.
type refs map[events.Key]map[string]bool

// watches begins to watch what matters to the node.
func (a *Agent) watches() []*watchSet {
	from := a.o.Store.Position()
	var out []*watchSet
	add := func(resource, name string, handle func(projections.Change)) {
		sel := projections.Selector{Resource: resource, Name: name}
		out = append(out, &watchSet{a.o.Store.Watch(from, sel), sel, handle})
	}
	add("pods", "", a.podChanged)
	add("configmaps", "", a.sourceChanged)
	add("secrets", "", a.sourceChanged)
	add("nodes", a.o.NodeName, a.nodeChanged)
	return out
}

// watch hands on changes. A watcher that fell too far behind is replaced, and everything looked at again.
func (a *Agent) watch(ctx context.Context, w *watchSet) error {
	defer func() { w.Close() }()
	for {
		changes, err := w.Next(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, projections.ErrTooOld):
			a.log.Warn("watcher fell behind, reading the present", "resource", w.sel.Resource)
			w.Close()
			w.Watcher = a.o.Store.Watch(a.o.Store.Position(), w.sel)
			if err := a.relist(w); err != nil {
				return err
			}
			continue
		case err != nil:
			return err
		}
		for _, c := range changes {
			w.handle(c)
		}
	}
}

// relist looks at the present of all that a watcher is about.
func (a *Agent) relist(w *watchSet) error {
	v := a.o.Store.Now()
	defer v.Close()
	alive := map[events.Key]bool{}
	for s, err := range v.List(w.sel, "") {
		if err != nil {
			return err
		}
		alive[s.Key] = true
		w.handle(projections.Change{Event: events.Event{Subject: events.Subject{Class: events.Observed, Key: s.Key}}, Next: s})
	}
	if w.sel.Resource != "pods" {
		return nil
	}
	for _, p := range a.all() {
		if !alive[p.key] {
			p.vanish()
		}
	}
	return nil
}

// podChanged tells the pod's worker, making it where the pod is new to this node.
func (a *Agent) podChanged(c projections.Change) {
	if c.Prev.UID != "" && (c.Prev.UID != c.Next.UID || !c.Next.Exists()) {
		if w := a.worker(c.Prev.UID); w != nil {
			w.vanish()
		}
	}
	if !c.Next.Exists() || c.Next.Node != "" && c.Next.Node != a.o.NodeName {
		return
	}
	pod, err := decodePod(c.Next)
	if err != nil {
		a.log.Error("a pod on the log cannot be read: it will not run", c.Event.LogAttrs(), events.LogError, err)
		return
	}
	if pod.Spec.NodeName != a.o.NodeName {
		return
	}
	news := seen{Pod: pod}
	if c.Event.Subject.Class == events.Desired {
		cause := events.CauseOf(c.Event)
		news.Cause, news.Correlation, news.TraceParent = cause.Sequence, cause.Correlation, cause.TraceParent
	}
	news.foreign = c.Event.Subject.Class == events.Observed && c.Event.Actor != a.actor()
	a.see(news)
}

// see gives news about a living pod to its worker.
func (a *Agent) see(news seen) {
	uid := string(news.Pod.UID)
	a.mu.Lock()
	w := a.workers[uid]
	if w == nil {
		if over(news.Pod) && news.Pod.DeletionTimestamp == nil {
			a.mu.Unlock()
			return // it ended, and all that was here is gone
		}
		w = newWorker(a, news)
		a.workers[uid] = w
		a.refs.add(news.Pod)
		a.mu.Unlock()
		w.start()
		return
	}
	a.refs.add(news.Pod)
	a.mu.Unlock()
	w.tell(news)
}

// actor is the node's identity on the log.
func (a *Agent) actor() string { return "system:node:" + a.o.NodeName }

func over(pod *v1.Pod) bool {
	return pod.Status.Phase == v1.PodSucceeded || pod.Status.Phase == v1.PodFailed
}

func decodePod(s events.State) (*v1.Pod, error) {
	pod := &v1.Pod{}
	if err := json.Unmarshal(s.Object, pod); err != nil {
		return nil, err
	}
	return pod, nil
}

func (a *Agent) worker(uid string) *worker {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.workers[uid]
}

func (a *Agent) all() []*worker {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := make([]*worker, 0, len(a.workers))
	for _, w := range a.workers {
		out = append(out, w)
	}
	return out
}

// dismiss forgets a worker whose pod has left nothing behind.
func (a *Agent) dismiss(w *worker) {
	a.mu.Lock()
	delete(a.workers, w.uid)
	a.refs.drop(w.uid)
	a.mu.Unlock()
	a.outbox.Forget(w.key)
}

func (a *Agent) wakePod(uid string) {
	if w := a.worker(uid); w != nil {
		w.wakeUp()
	}
}

// followRuntime wakes the workers of pods about which the runtime has news.
func (a *Agent) followRuntime(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case e, open := <-a.o.Runtime.Events():
			if !open {
				return errors.New("the runtime ended")
			}
			if w := a.worker(e.SandboxID); w != nil {
				w.runtimeNews()
			}
		}
	}
}

// sourceChanged hurries the pods that refer to a configMap or secret.
func (a *Agent) sourceChanged(c projections.Change) {
	a.mu.Lock()
	var list []*worker
	for uid := range a.refs[c.Event.Subject.Key] {
		if w := a.workers[uid]; w != nil {
			list = append(list, w)
		}
	}
	a.mu.Unlock()
	for _, w := range list {
		w.sourceNews()
	}
}

func (r refs) add(pod *v1.Pod) {
	link := func(resource, name string) {
		key := events.Key{Resource: resource, Namespace: pod.Namespace, Name: name}
		if r[key] == nil {
			r[key] = map[string]bool{}
		}
		r[key][string(pod.UID)] = true
	}
	eachSource(pod, link)
}

func (r refs) drop(uid string) {
	for key, pods := range r {
		delete(pods, uid)
		if len(pods) == 0 {
			delete(r, key)
		}
	}
}

// eachSource calls f for every configMap and secret that a pod refers to.
func eachSource(pod *v1.Pod, f func(resource, name string)) {
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		switch {
		case v.ConfigMap != nil:
			f("configmaps", v.ConfigMap.Name)
		case v.Secret != nil:
			f("secrets", v.Secret.SecretName)
		case v.Projected != nil:
			for _, s := range v.Projected.Sources {
				if s.ConfigMap != nil {
					f("configmaps", s.ConfigMap.Name)
				}
				if s.Secret != nil {
					f("secrets", s.Secret.Name)
				}
			}
		}
	}
	for _, s := range pod.Spec.ImagePullSecrets {
		f("secrets", s.Name)
	}
	for _, list := range [][]v1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			for _, from := range list[i].EnvFrom {
				if from.ConfigMapRef != nil {
					f("configmaps", from.ConfigMapRef.Name)
				}
				if from.SecretRef != nil {
					f("secrets", from.SecretRef.Name)
				}
			}
			for _, e := range list[i].Env {
				if e.ValueFrom != nil && e.ValueFrom.ConfigMapKeyRef != nil {
					f("configmaps", e.ValueFrom.ConfigMapKeyRef.Name)
				}
				if e.ValueFrom != nil && e.ValueFrom.SecretKeyRef != nil {
					f("secrets", e.ValueFrom.SecretKeyRef.Name)
				}
			}
		}
	}
}
