package storage

import (
	"context"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/watch"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/projections"
)

// progress knows the watches that want to hear how far they have come: those of the watch cache. They are
// told when somebody waits for a revision, and every interval.
type progress struct {
	interval time.Duration

	mu      sync.Mutex
	readers map[*watcher]*projections.Watcher
}

// join enters a watch; the function that it returns takes it out.
func (p *progress) join(w *watcher, changes *projections.Watcher) (leave func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.readers == nil {
		p.readers = map[*watcher]*projections.Watcher{}
	}
	p.readers[w] = changes
	var tick *time.Timer
	tick = time.AfterFunc(p.interval, func() {
		w.want(max(w.told.Load(), 1))
		changes.Wake()
		p.mu.Lock()
		defer p.mu.Unlock()
		if _, in := p.readers[w]; in {
			tick.Reset(p.interval)
		}
	})
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.readers, w)
		tick.Stop()
	}
}

// request makes every watch send a bookmark once it has passed on everything up to at.
func (s *store) requestProgress(at events.Sequence) {
	s.progress.mu.Lock()
	defer s.progress.mu.Unlock()
	if len(s.progress.readers) == 0 {
		return
	}
	for w := range s.progress.readers {
		w.want(uint64(at))
	}
	if s.proj.Position() >= at {
		s.progress.wake()
		return
	}
	s.start(func(life context.Context) {
		// An error is the end of the store: then there is nobody to tell.
		if s.proj.WaitFor(life, at) == nil {
			s.progress.mu.Lock()
			defer s.progress.mu.Unlock()
			s.progress.wake()
		}
	})
}

func (p *progress) wake() {
	for _, changes := range p.readers {
		changes.Wake()
	}
}

// want asks for a bookmark at a revision or later.
func (w *watcher) want(at uint64) {
	for {
		was := w.wanted.Load()
		if was >= at || w.wanted.CompareAndSwap(was, at) {
			return
		}
	}
}

// sendProgress sends the bookmark that somebody wants, if the watch has come so far. Everything that changes
// has given must have been sent, so that the bookmark overtakes nothing.
func (w *watcher) sendProgress(ctx context.Context, changes *projections.Watcher) error {
	wanted := w.wanted.Load()
	if wanted == 0 {
		return nil
	}
	at := changes.Position()
	if uint64(at) < wanted || at > w.s.proj.Position() { // a watch from the future is not there yet
		return nil
	}
	w.wanted.CompareAndSwap(wanted, 0)
	obj := w.s.newObject()
	if err := w.s.versioner.UpdateObject(obj, uint64(at)); err != nil {
		return err
	}
	w.told.Store(uint64(at))
	return w.send(ctx, watch.Event{Type: watch.Bookmark, Object: obj})
}
