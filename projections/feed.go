package projections

import (
	"fmt"
	"sync"

	"github.com/orlog-io/orlog/events"
)

// How many of the newest changes a store holds in memory, for watchers that begin a little in the past, and
// how much may wait in memory for a slow watcher before it is sent to the disk.
const (
	ringChanges = 4096
	ringBytes   = 4 << 20
	queueBytes  = 16 << 20
)

// feed hands each commit's changes to the watchers. Its lock orders commits against watchers that begin,
// so that none misses a change or sees one twice.
type feed struct {
	mu       sync.Mutex
	position events.Sequence
	closed   bool
	// ring holds the changes after ringFrom, oldest first.
	ring     []*Change
	ringFrom events.Sequence
	ringSize int
	// The limits above; tests lower them.
	ringChanges, ringBytes, queueBytes int
	// watchers, by the resource that they select; those that select all are under the zero resource.
	watchers map[resource]map[*Watcher]struct{}
}

type resource struct{ group, name string }

func (f *feed) init() {
	f.watchers = map[resource]map[*Watcher]struct{}{}
	f.limits(ringChanges, ringBytes, queueBytes)
}

func (f *feed) limits(ringChanges, ringBytes, queueBytes int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ringChanges, f.ringBytes, f.queueBytes = ringChanges, ringBytes, queueBytes
}

// start sets where the feed begins, before anybody watches.
func (f *feed) start(at events.Sequence) { f.position, f.ringFrom = at, at }

// publish makes a commit visible: commit sets the store's position, then the watchers get what they selected.
func (f *feed) publish(at events.Sequence, changes []Change, commit func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	commit()
	f.position = at
	woken := map[*Watcher]struct{}{}
	for i := range changes {
		c := &changes[i]
		f.remember(c)
		key := c.Event.Subject.Key
		for _, r := range [2]resource{{key.Group, key.Resource}, {}} {
			for w := range f.watchers[r] {
				if w.offer(c) {
					woken[w] = struct{}{}
				}
			}
		}
	}
	for w := range woken {
		if w.settle(f.queueBytes) {
			f.remove(w)
		}
	}
	f.trim()
}

func (f *feed) remember(c *Change) {
	f.ring = append(f.ring, c)
	f.ringSize += c.size()
}

// trim shortens a ring that has grown too long by a quarter more than it must, so that it moves seldom.
func (f *feed) trim() {
	if len(f.ring) <= f.ringChanges && f.ringSize <= f.ringBytes {
		return
	}
	drop := 0
	for len(f.ring)-drop > f.ringChanges*3/4 || (f.ringSize > f.ringBytes*3/4 && len(f.ring)-drop > 1) {
		f.ringSize -= f.ring[drop].size()
		drop++
	}
	f.ringFrom = f.ring[drop-1].Event.Sequence
	f.ring = append(f.ring[:0:0], f.ring[drop:]...)
}

// attach makes a watcher live from sequence at on. False: the ring no longer reaches back so far.
func (f *feed) attach(w *Watcher, at events.Sequence) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return false, fmt.Errorf("projection in %s: %w", w.s.dir, events.ErrClosed)
	}
	if at < f.ringFrom {
		return false, nil
	}
	if err := w.goLive(at); err != nil {
		return false, err
	}
	for _, c := range f.ring {
		w.offer(c)
	}
	r := resource{w.sel.Group, w.sel.Resource}
	if w.sel.Resource == "" {
		r = resource{}
	}
	if f.watchers[r] == nil {
		f.watchers[r] = map[*Watcher]struct{}{}
	}
	f.watchers[r][w] = struct{}{}
	return true, nil
}

func (f *feed) detach(w *Watcher) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.remove(w)
}

func (f *feed) remove(w *Watcher) {
	for _, r := range [2]resource{{w.sel.Group, w.sel.Resource}, {}} {
		if delete(f.watchers[r], w); len(f.watchers[r]) == 0 {
			delete(f.watchers, r)
		}
	}
}

func (f *feed) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed, f.ring = true, nil
	for _, set := range f.watchers {
		for w := range set {
			w.end(fmt.Errorf("projection in %s: %w", w.s.dir, events.ErrClosed))
		}
	}
	f.watchers = nil
}
