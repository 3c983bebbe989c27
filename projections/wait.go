package projections

import (
	"container/heap"
	"context"
	"fmt"
	"sync"

	"github.com/orlog-io/orlog/events"
)

// WaitFor returns once the store has folded the sequence: read your own writes. Errors: ctx's own, or
// events.ErrClosed.
func (s *Store) WaitFor(ctx context.Context, seq events.Sequence) error {
	if s.Position() >= seq {
		return nil
	}
	w := &waiter{seq: seq, done: make(chan struct{})}
	if !s.waiters.add(w, s.Position) {
		return fmt.Errorf("projection in %s: %w", s.dir, events.ErrClosed)
	}
	select {
	case <-w.done:
		if s.Position() < seq {
			return fmt.Errorf("projection in %s: %w", s.dir, events.ErrClosed)
		}
		return nil
	case <-ctx.Done():
		s.waiters.remove(w)
		return fmt.Errorf("waiting for sequence %d, at %d: %w", seq, s.Position(), ctx.Err())
	}
}

type waiter struct {
	seq  events.Sequence
	done chan struct{}
	at   int // place in the heap; -1: not in it
}

// waiters are those in WaitFor, the lowest sequence first: a commit wakes only those that it satisfies.
type waiters struct {
	mu     sync.Mutex
	heap   waiterHeap
	closed bool
}

// add enters a waiter, or lets it go at once where the position has been reached meanwhile. False: closed.
func (w *waiters) add(one *waiter, position func() events.Sequence) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return false
	}
	if position() >= one.seq {
		one.at = -1
		close(one.done)
		return true
	}
	heap.Push(&w.heap, one)
	return true
}

func (w *waiters) remove(one *waiter) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if one.at >= 0 {
		heap.Remove(&w.heap, one.at)
	}
}

// reached lets go all that wait for at most seq.
func (w *waiters) reached(seq events.Sequence) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.heap) > 0 && w.heap[0].seq <= seq {
		close(heap.Pop(&w.heap).(*waiter).done)
	}
}

func (w *waiters) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	for len(w.heap) > 0 {
		close(heap.Pop(&w.heap).(*waiter).done)
	}
}

type waiterHeap []*waiter

func (h waiterHeap) Len() int           { return len(h) }
func (h waiterHeap) Less(i, j int) bool { return h[i].seq < h[j].seq }
func (h waiterHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i]; h[i].at, h[j].at = i, j }
func (h *waiterHeap) Push(x any)        { w := x.(*waiter); w.at = len(*h); *h = append(*h, w) }
func (h *waiterHeap) Pop() any {
	last := len(*h) - 1
	w := (*h)[last]
	(*h)[last] = nil
	*h, w.at = (*h)[:last], -1
	return w
}
