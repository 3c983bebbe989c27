package agent

import (
	"context"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
)

// refresher looks after one pod's volumes beside the worker: a token may have to be waited for.
type refresher struct {
	mu     sync.Mutex
	cancel context.CancelFunc
	done   chan struct{} // closed when the refresh under way has ended
	next   time.Time     // what it found out
	ended  bool
}

// refresh writes what has changed in a pod's volumes, if it is time.
func (w *worker) refresh(pod *v1.Pod) {
	r := &w.refresher
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended {
		r.ended, r.done = false, nil
		if w.refreshAt.IsZero() || !r.next.IsZero() && r.next.Before(w.refreshAt) {
			w.refreshAt = r.next
		}
	}
	if r.done != nil || w.refreshAt.IsZero() || time.Now().Before(w.refreshAt) {
		return
	}
	w.refreshAt = time.Time{}
	ctx, cancel := context.WithCancel(w.a.ctx)
	done := make(chan struct{})
	r.cancel, r.done = cancel, done
	w.a.wg.Go(func() {
		defer cancel()
		defer close(done)
		next, err := w.a.volumes.Refresh(ctx, pod)
		if err != nil && ctx.Err() == nil {
			w.event(v1.EventTypeWarning, "FailedMount", err.Error())
			if soon := time.Now().Add(time.Minute); next.IsZero() || soon.Before(next) {
				next = soon
			}
		}
		r.mu.Lock()
		r.next, r.ended = next, true
		r.mu.Unlock()
		w.wakeUp()
	})
}

// endRefresh waits until nothing writes to the pod's volumes.
func (w *worker) endRefresh() {
	r := &w.refresher
	r.mu.Lock()
	done := r.done
	if done != nil {
		r.cancel()
	}
	r.mu.Unlock()
	if done != nil {
		<-done
	}
}
