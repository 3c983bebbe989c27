package agent

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/node/image"
	"github.com/orlog-io/orlog/node/runc"
)

// garbageEvery is how often the remains of ended attempts and of pods that are gone are looked at.
const garbageEvery = time.Minute

// collectGarbage removes what no pod needs any more: at once what is there when the projection has caught up (see
// catchUp), later what was left behind by a removal that failed, and what ended attempts have left. What fails is
// tried again in the next round, which backs off as far as ten minutes.
func (a *Agent) collectGarbage(ctx context.Context) error {
	select {
	case <-a.caughtUp:
	case <-ctx.Done():
		return nil
	}
	for pause := garbageEvery; sleep(ctx, pause); {
		for _, w := range a.all() {
			w.tidyUp()
		}
		err := a.prune(ctx)
		switch {
		case err == nil:
			pause = garbageEvery
		case ctx.Err() == nil:
			pause = min(2*pause, 10*garbageEvery)
			a.log.Warn("removing what no pod needs any more", events.LogError, err, "again", pause)
		}
	}
	return nil
}

// tidyUp has the worker look at what ended attempts have left.
func (w *worker) tidyUp() {
	w.mu.Lock()
	w.tidies = true
	w.mu.Unlock()
	w.wakeUp()
}

// tidy removes what ended attempts have left, as Options.DeadContainers wants it. The attempt that a status shows is
// never touched while it runs.
func (w *worker) tidy(ctx context.Context, now time.Time) {
	policy := w.a.o.DeadContainers
	for name, c := range w.rec.Containers {
		if c.ID == "" {
			continue
		}
		old := func(t time.Time) bool { return now.Sub(t) >= policy.MinAge }
		if _, here := w.instances[c.ID]; here && policy.Max == 0 && c.Exit != nil && old(c.Exit.FinishedAt) {
			w.discard(ctx, c.ID)
		}
		err := removeAttempts(w.a.records.containerDir(w.uid, name), c.Attempt, old)
		if err == nil && policy.Max >= 0 {
			err = removeAttempts(filepath.Join(w.logDir(), name), c.Attempt-policy.Max, old)
		}
		if err != nil {
			w.log("removing what ended attempts of "+name+" left", err)
		}
	}
	current := map[string]bool{}
	for _, c := range w.rec.Containers {
		current[c.ID] = true
	}
	for id, in := range w.instances {
		if in.Exited && !current[id] && len(w.rec.Containers) > 0 {
			w.discard(ctx, id) // the agent died between starting the next attempt and removing this one
		}
	}
}

func (w *worker) discard(ctx context.Context, id string) {
	err := w.a.o.Runtime.Remove(ctx, w.uid, id)
	if err != nil && !errors.Is(err, runc.ErrNotFound) {
		w.log("removing an ended container", err)
		return
	}
	delete(w.instances, id)
}

// removeAttempts removes from a container's folder the files of attempts before the given one: <attempt>,
// <attempt>.log and rotated logs, <attempt>.log.<time>. Those that are not old stay.
func removeAttempts(dir string, first int, old func(time.Time) bool) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		number, _, _ := strings.Cut(e.Name(), ".")
		n, err := strconv.Atoi(number)
		if err != nil || n >= first {
			continue
		}
		info, err := e.Info()
		if err == nil && old(info.ModTime()) {
			err = os.Remove(filepath.Join(dir, e.Name()))
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// collector removes unused images from the agent's store.
func (a *Agent) collector(store *image.Store) *image.Collector {
	return &image.Collector{Store: store, Policy: a.o.ImageGC, Guard: &a.imageUse, Logger: a.log,
		InUse: func() ([]string, map[string]bool, error) {
			images, err := store.List()
			if err != nil {
				return nil, nil, err
			}
			var all []string
			for _, i := range images {
				all = append(all, i.Layers...)
			}
			layers, err := runc.MountedLayers(all)
			return a.imagesInUse(), layers, err
		},
		Failed: func(err error) {
			reason := "ImageGCFailed"
			if errors.Is(err, image.ErrNotFreed) {
				reason = "FreeDiskSpaceFailed"
			}
			a.nodeEvent(v1.EventTypeWarning, reason, err.Error())
		}}
}

// imagesInUse are the images of the pods that are not over, by what the pods call them and by what they resolved to.
func (a *Agent) imagesInUse() []string {
	var out []string
	for _, w := range a.all() {
		w.mu.Lock()
		pod, known := w.seen.Pod, w.public
		w.mu.Unlock()
		if known.down {
			continue
		}
		for _, at := range known.containers {
			out = append(out, at.image, at.imageID)
		}
		for _, list := range [][]v1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
			for i := range list {
				out = append(out, list[i].Image)
			}
		}
		for i := range pod.Spec.EphemeralContainers {
			out = append(out, pod.Spec.EphemeralContainers[i].Image)
		}
		for i := range pod.Spec.Volumes {
			if v := pod.Spec.Volumes[i].Image; v != nil {
				out = append(out, v.Reference)
			}
		}
	}
	return out
}

// nodeEvent is about the node; its reference is the one that kubelets use.
func (a *Agent) nodeEvent(kind, why, text string) {
	ref := &v1.ObjectReference{Kind: "Node", Name: a.o.NodeName, UID: types.UID(a.o.NodeName)}
	a.events.put(note{ref, kind, why, text})
}
