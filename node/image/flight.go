package image

import (
	"context"
	"sync"
)

// flights lets callers who want the same image at the same time share one pull. Unlike a plain single-flight, it ends
// when the last caller gives up, and not with the first.
type flights struct {
	mu  sync.Mutex
	now map[string]*flight
}

type flight struct {
	done    chan struct{}
	cancel  context.CancelFunc
	waiting int
	reports []func(Progress)
	image   Image
	err     error
}

// join runs pull, or waits for the one that runs under key.
func (f *flights) join(ctx context.Context, key string, report func(Progress), pull func(context.Context, func(Progress)) (Image, error)) (Image, error) {
	f.mu.Lock()
	fl := f.now[key]
	if fl == nil {
		var run context.Context
		fl = &flight{done: make(chan struct{})}
		run, fl.cancel = context.WithCancel(context.WithoutCancel(ctx))
		if f.now == nil {
			f.now = map[string]*flight{}
		}
		f.now[key] = fl
		go func() {
			fl.image, fl.err = pull(run, func(p Progress) { f.report(fl, p) })
			f.leave(key, fl)
			close(fl.done)
			fl.cancel()
		}()
	}
	fl.waiting++
	if report != nil {
		fl.reports = append(fl.reports, report)
	}
	f.mu.Unlock()
	select {
	case <-fl.done:
		return fl.image, fl.err
	case <-ctx.Done():
		f.mu.Lock()
		fl.waiting--
		last := fl.waiting == 0
		if last && f.now[key] == fl {
			delete(f.now, key) // whoever comes now must not wait for a pull that is being ended
		}
		f.mu.Unlock()
		if last {
			fl.cancel()
			<-fl.done // so that nothing of it goes on after the caller was told
		}
		return Image{}, ctx.Err()
	}
}

// leave makes room for the next pull of the same image.
func (f *flights) leave(key string, fl *flight) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.now[key] == fl {
		delete(f.now, key)
	}
}

func (f *flights) report(fl *flight, p Progress) {
	f.mu.Lock()
	reports := fl.reports
	f.mu.Unlock()
	for _, report := range reports {
		report(p)
	}
}
