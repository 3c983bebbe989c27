package jetstream

import (
	"sync"
	"time"
)

// deadline is a moment that may be moved while others wait for it.
type deadline struct {
	mu      sync.Mutex
	timer   *time.Timer
	expired chan struct{} // closed when the moment has come
}

func newDeadline() *deadline { return &deadline{expired: make(chan struct{})} }

// set moves the moment; the zero time means never.
func (d *deadline) set(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer != nil && !d.timer.Stop() {
		<-d.expired // the timer has fired: let it finish, so that it cannot close a newer channel
	}
	d.timer = nil
	over := isClosed(d.expired)
	if t.IsZero() || time.Until(t) > 0 {
		if over {
			d.expired = make(chan struct{})
		}
		if !t.IsZero() {
			ch := d.expired
			d.timer = time.AfterFunc(time.Until(t), func() { close(ch) })
		}
	} else if !over {
		close(d.expired)
	}
}

// wait gives a channel that closes when the moment has come.
func (d *deadline) wait() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.expired
}

func isClosed(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}
