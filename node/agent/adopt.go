package agent

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/projections"
)

// adopt gives a worker to every pod that this node has a record of, and to every pod of the projection that is
// bound to it. Nothing is started or stopped for it: the workers look for themselves.
func (a *Agent) adopt(ctx context.Context) error {
	rebooted, err := a.rebooted()
	if err != nil {
		return err
	}
	uids, err := a.records.list()
	if err != nil {
		return fmt.Errorf("records of pods: %w", err)
	}
	for _, uid := range uids {
		s, rec, known, err := a.records.load(uid)
		if err != nil {
			return err
		}
		if !known {
			continue // pruned later
		}
		w := newWorker(a, s)
		if rec != nil {
			if rebooted {
				rec.Rebooted(w.seen.Pod)
			}
			w.rec = rec
		}
		a.mu.Lock()
		a.workers[uid] = w
		a.refs.add(s.Pod)
		a.mu.Unlock()
	}
	started := a.all()
	v := a.o.Store.Now()
	defer v.Close()
	for s, err := range v.ByNode(a.o.NodeName) {
		if err != nil {
			return err
		}
		if s.Key.Group != "" || s.Key.Resource != "pods" {
			continue
		}
		pod, err := decodePod(s)
		if err != nil {
			return fmt.Errorf("pod %s in the projection: %w", s.Key, err)
		}
		if pod.Spec.NodeName == a.o.NodeName {
			a.see(seen{Pod: pod, Cause: s.Desired})
		}
	}
	for _, w := range started {
		w.start()
	}
	return nil
}

// rebooted tells whether the machine was restarted since the agent last ran: then nothing that records say runs,
// or is mounted, is.
func (a *Agent) rebooted() (bool, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return false, err
	}
	now := strings.TrimSpace(string(b))
	path := filepath.Join(a.o.DataDir, "boot-id")
	was, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		return false, err
	}
	if string(was) == now {
		return false, nil
	}
	return len(was) > 0, os.WriteFile(path, []byte(now), 0o600)
}

// catchUp waits until the projection has seen all that was on the log when the agent started, then finds out which
// pods are gone and removes what belongs to none. Before that it would be guessing.
func (a *Agent) catchUp(ctx context.Context) error {
	var last events.Sequence
	a.retry(ctx, "reading the log's end", func() (err error) {
		last, err = a.end(ctx)
		return err
	})
	if ctx.Err() != nil {
		return nil //nolint:nilerr // it was told to end
	}
	if err := a.o.Store.WaitFor(ctx, last); err != nil {
		if ctx.Err() != nil {
			return nil //nolint:nilerr // it was told to end
		}
		return err
	}
	close(a.caughtUp)
	a.nodeChanged(projections.Change{})
	for _, w := range a.all() {
		s, err := a.state(w.key)
		if err != nil {
			return err
		}
		if !s.Exists() || s.UID != w.uid {
			w.vanish()
			continue
		}
		a.retry(ctx, "reading the last report of "+w.key.String(), func() error { return a.contested(ctx, w, s) })
	}
	a.retry(ctx, "pruning", func() error { return a.prune(ctx) })
	return nil
}

// end is how far the projection has to come.
func (a *Agent) end(ctx context.Context) (events.Sequence, error) { return a.o.Store.End(ctx, a.o.Log) }

// contested finds out whether somebody else spoke last about a pod's status, while the agent was away.
func (a *Agent) contested(ctx context.Context, w *worker, s events.State) error {
	if s.Observed == 0 {
		return nil
	}
	last, err := a.o.Log.Get(ctx, s.Observed)
	if err != nil || last.Actor == a.actor() {
		return err
	}
	pod, err := decodePod(s)
	if err != nil {
		return err
	}
	w.tell(seen{Pod: pod, foreign: true})
	return nil
}

// prune removes sandboxes, volumes, networks and records of pods that are not known.
func (a *Agent) prune(ctx context.Context) error {
	boxes, err := a.o.Runtime.Sandboxes(ctx)
	if err != nil {
		return err
	}
	stray := func(uid string) bool { return a.worker(uid) == nil }
	for _, s := range boxes {
		if stray(s.ID) {
			a.log.Info("closing a sandbox of no known pod", events.LogObject, events.Key{Resource: "pods", Namespace: s.Namespace, Name: s.Name}.String(), "uid", s.ID)
			if err := a.o.Runtime.CloseSandbox(ctx, s.ID); err != nil {
				return err
			}
		}
	}
	volumes, err := a.volumes.Pods()
	if err != nil {
		return err
	}
	for _, uid := range volumes {
		if stray(uid) {
			if err := a.volumes.Teardown(uid); err != nil {
				return err
			}
		}
	}
	for _, uid := range a.o.Network.List() {
		if stray(uid) {
			if err := a.o.Network.Teardown(ctx, uid); err != nil {
				return err
			}
		}
	}
	uids, err := a.records.list()
	if err != nil {
		return err
	}
	for _, uid := range uids {
		if stray(uid) {
			if err := a.records.remove(uid); err != nil {
				return err
			}
		}
	}
	return a.pruneLogs()
}

// pruneLogs removes the logs of pods that are not known. Their folders end in the pod's uid.
func (a *Agent) pruneLogs() error {
	entries, err := os.ReadDir(a.o.LogDir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		_, uid, ok := cutLast(e.Name(), "_")
		if ok && a.worker(uid) == nil {
			if err := os.RemoveAll(filepath.Join(a.o.LogDir, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// state is what the projection knows of an object.
func (a *Agent) state(key events.Key) (events.State, error) {
	v := a.o.Store.Now()
	defer v.Close()
	return v.Cursor(key)
}
