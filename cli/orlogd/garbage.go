package main

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// How much garbage may pile up beside what lives, in percent. The API server's schemas and caches are most of what
// lives: at rest Go's default would hold 50 MiB more for nothing. At work the collector would take a quarter of the
// processor time at that, so then it may wait.
const (
	restPercent = 50
	workPercent = 200

	// paceInterval is how often the pace is looked at, workBytes what is allocated in that time at work at least.
	paceInterval = time.Second
	workBytes    = 16 << 20
	// restAfter is how many calm intervals make a rest.
	restAfter = 10
)

// pace decides how hard the garbage collector works, by how much is allocated. The zero pace is at rest.
type pace struct {
	working bool
	calm    int // intervals since the last one at work
}

// next takes in what was allocated in an interval. changed: the mode is another one now.
func (p *pace) next(allocated uint64) (changed bool) {
	if allocated >= workBytes {
		changed, p.working, p.calm = !p.working, true, 0
		return changed
	}
	if !p.working {
		return false
	}
	if p.calm++; p.calm < restAfter {
		return false
	}
	p.working = false
	return true
}

// paceCollector sets the garbage collector's pace until ctx ends. After work it gives back the memory that work took.
func paceCollector(ctx context.Context) {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	allocated := func() uint64 {
		metrics.Read(sample)
		return sample[0].Value.Uint64()
	}
	tick := time.NewTicker(paceInterval)
	defer tick.Stop()
	var p pace
	for before := allocated(); ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := allocated()
		if p.next(now - before) {
			if p.working {
				debug.SetGCPercent(workPercent)
			} else {
				debug.SetGCPercent(restPercent)
				debug.FreeOSMemory()
			}
		}
		before = now
	}
}
