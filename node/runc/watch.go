package runc

import (
	"errors"
	"time"

	"github.com/orlog-io/orlog/node/shim"
)

// watch starts, once for each pod, the goroutine that turns the shim's events into Events and notices its death.
func (r *Runtime) watch(p *pod) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if p.watching || p.ctx.Err() != nil {
		return
	}
	p.watching = true
	r.group.Go(func() { r.follow(p) })
}

// follow listens until the pod is closed or its shim is gone; a death is cleaned up after and reported.
func (r *Runtime) follow(p *pod) {
	for wait := 10 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		err := r.listen(p)
		if p.ctx.Err() != nil {
			return
		}
		if gone(err) || errors.Is(err, ErrShimGone) {
			if ended, err := r.buried(p); ended || p.ctx.Err() != nil {
				return
			} else if err != nil {
				r.opts.Warn("clean up after a dead shim; trying again", "sandbox", p.id, "error", err)
			}
		} else {
			r.opts.Warn("events of a shim; connecting again", "sandbox", p.id, "error", err)
		}
		select {
		case <-time.After(wait):
		case <-p.ctx.Done():
			return
		}
	}
}

// listen reports every change until the connection breaks.
func (r *Runtime) listen(p *pod) error {
	conn, done, err := r.dial(p.ctx, p.id)
	if err != nil {
		return err
	}
	defer done()
	if err := conn.Send(shim.Request{Op: shim.OpEvents}); err != nil {
		return err
	}
	for {
		var reply shim.Reply
		if _, err := conn.Recv(&reply); err != nil {
			return err
		}
		for _, s := range reply.Containers {
			if s.ID == pauseID {
				if s.State == Exited {
					// Its namespace is dead and so are all in it, or soon will be.
					r.hub.report(Event{SandboxID: p.id})
				}
				continue
			}
			r.hub.report(Event{SandboxID: p.id, ContainerID: s.ID})
		}
	}
}

// buried cleans up after a shim that has died, unless somebody has done so and opened the sandbox again; then the
// watch goes on with the new shim.
func (r *Runtime) buried(p *pod) (ended bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ctx.Err() != nil {
		return true, nil
	}
	alive, err := r.alive(p.ctx, p.id)
	if alive || err != nil {
		return false, err
	}
	if err := r.recover(p.ctx, p); err != nil {
		return false, err
	}
	r.mu.Lock()
	p.watching = false
	r.mu.Unlock()
	r.hub.report(Event{SandboxID: p.id})
	return true, nil
}
