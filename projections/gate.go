package projections

import "sync"

// gate counts the operations under way on something that is to be closed, so that closing waits for them
// and none begins afterwards. Unlike a sync.RWMutex it may be entered again by who is already inside.
type gate struct {
	mu   sync.Mutex
	n    int
	shut bool
	then func()
}

// enter reports whether the operation may begin; if so, leave must follow.
func (g *gate) enter() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut {
		return false
	}
	g.n++
	return true
}

func (g *gate) leave() {
	g.mu.Lock()
	g.n--
	then := g.then
	if g.n > 0 || !g.shut {
		then = nil
	} else {
		g.then = nil
	}
	g.mu.Unlock()
	if then != nil {
		then()
	}
}

// close lets nobody in any more and calls then once, when the last operation has left. It does not wait.
// Only the first close counts; it returns false afterwards.
func (g *gate) close(then func()) bool {
	g.mu.Lock()
	if g.shut {
		g.mu.Unlock()
		return false
	}
	g.shut = true
	if g.n > 0 {
		g.then, then = then, nil
	}
	g.mu.Unlock()
	if then != nil {
		then()
	}
	return true
}
