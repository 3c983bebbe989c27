package shim

import (
	"os"
	"os/signal"
	"sync"

	"golang.org/x/sys/unix"
)

// catchSignals keeps the shim alive through what a dying terminal or a careless kill sends. The signals are
// caught, not ignored: ignoring is inherited by what the shim starts, catching is not.
func catchSignals() {
	signal.Notify(make(chan os.Signal, 1), unix.SIGHUP, unix.SIGINT, unix.SIGTERM, unix.SIGPIPE)
}

// subscriber is one connection that hears of changes. Changes of one container that happen faster than the
// client reads become one: only the newest status counts.
type subscriber struct {
	mu    sync.Mutex
	dirty map[string]struct{}
	wake  chan struct{}
}

// changed tells the subscribers that a container's status is another.
func (s *Server) changed(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for sub := range s.subscribers {
		sub.mu.Lock()
		sub.dirty[id] = struct{}{}
		sub.mu.Unlock()
		select {
		case sub.wake <- struct{}{}:
		default:
		}
	}
}

// events serves a subscriber until it hangs up.
func (s *Server) events(conn *Conn) {
	sub := &subscriber{dirty: map[string]struct{}{}, wake: make(chan struct{}, 1)}
	s.mu.Lock()
	s.subscribers[sub] = struct{}{}
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.subscribers, sub)
		s.mu.Unlock()
	}()
	if conn.Send(Reply{Containers: s.statuses()}) != nil {
		return
	}
	gone := hangup(conn)
	for {
		select {
		case <-sub.wake:
		case <-gone:
			return
		}
		if conn.Send(Reply{Containers: s.drain(sub)}) != nil {
			return
		}
	}
}

func (s *Server) drain(sub *subscriber) []Status {
	sub.mu.Lock()
	ids := sub.dirty
	sub.dirty = map[string]struct{}{}
	sub.mu.Unlock()
	var changes []Status
	for id := range ids {
		if c, err := s.container(id); err == nil {
			changes = append(changes, c.Status())
		}
	}
	return changes
}

// hangup returns a channel that is closed when the other side has closed the connection. Messages are dropped.
func hangup(conn *Conn) <-chan struct{} {
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		for {
			var ignored Request
			fds, err := conn.Recv(&ignored)
			if err != nil {
				return
			}
			CloseFDs(fds)
		}
	}()
	return gone
}
