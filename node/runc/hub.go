package runc

import (
	"context"
	"sync"
)

// hub passes events on without ever blocking who reports them and without losing one: equal ones that wait are one.
type hub struct {
	mu      sync.Mutex
	waiting map[Event]struct{}
	order   []Event
	wake    chan struct{}
	out     chan Event
}

func newHub() *hub {
	return &hub{waiting: map[Event]struct{}{}, wake: make(chan struct{}, 1), out: make(chan Event)}
}

func (h *hub) report(e Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, ok := h.waiting[e]; ok {
		return
	}
	h.waiting[e] = struct{}{}
	h.order = append(h.order, e)
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

func (h *hub) next() (Event, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.order) == 0 {
		return Event{}, false
	}
	e := h.order[0]
	h.order = h.order[1:]
	delete(h.waiting, e)
	return e, true
}

func (h *hub) run(ctx context.Context) {
	defer close(h.out)
	for {
		e, ok := h.next()
		if !ok {
			select {
			case <-h.wake:
				continue
			case <-ctx.Done():
				return
			}
		}
		select {
		case h.out <- e:
		case <-ctx.Done():
			return
		}
	}
}
