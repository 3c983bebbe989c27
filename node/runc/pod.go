package runc

import (
	"context"
	"sync"
	"sync/atomic"
)

// pod is what the runtime holds in memory of one sandbox.
type pod struct {
	id string
	// mu: containers' calls share it, opening, recovering and closing have it alone.
	mu       sync.RWMutex
	keys     keyLock
	watching bool         // guarded by Runtime.mu
	shimPID  atomic.Int64 // 0: not known to this process yet
	ctx      context.Context
	cancel   context.CancelFunc // ends calls under way when the sandbox is to be closed
}

// pod returns the one pod value for a sandbox.
func (r *Runtime) pod(id string) *pod {
	r.mu.Lock()
	defer r.mu.Unlock()
	p, ok := r.pods[id]
	if !ok {
		p = &pod{id: id}
		p.ctx, p.cancel = context.WithCancel(r.ctx)
		r.pods[id] = p
	}
	return p
}

// drop forgets a closed pod; calls that still hold it end with its context.
func (r *Runtime) drop(p *pod) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.pods[p.id] == p {
		delete(r.pods, p.id)
	}
	p.cancel()
}

// keyLock is a mutex for each name.
type keyLock struct {
	mu   sync.Mutex
	held map[string]chan struct{}
}

func (k *keyLock) lock(ctx context.Context, key string) (unlock func(), err error) {
	for {
		k.mu.Lock()
		busy, ok := k.held[key]
		if !ok {
			if k.held == nil {
				k.held = map[string]chan struct{}{}
			}
			mine := make(chan struct{})
			k.held[key] = mine
			k.mu.Unlock()
			return func() {
				k.mu.Lock()
				delete(k.held, key)
				k.mu.Unlock()
				close(mine)
			}, nil
		}
		k.mu.Unlock()
		select {
		case <-busy:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
