package narrator

import (
	"sync/atomic"

	"github.com/orlog-io/orlog/events"
)

// Place tells others how far the narrator has come. The zero Place is ready to use.
type Place struct {
	told atomic.Uint64
	// waiting: all that was read is told.
	waiting atomic.Bool
}

// Position is the newest event of the log that needs no telling any more. The narrator reads few kinds of events, so
// while it has none in hand that is as far as the reconcilers' projection, which reads them all, has come.
func (p *Place) Position(projection func() events.Sequence) events.Sequence {
	at := events.Sequence(p.told.Load())
	if p.waiting.Load() {
		at = max(at, projection())
	}
	return at
}

func (p *Place) reads(next events.Sequence) {
	if p != nil && next > 0 {
		p.told.Store(uint64(next) - 1)
		p.waiting.Store(true)
	}
}

func (p *Place) tells(next events.Sequence) {
	if p != nil && next > 0 {
		p.told.Store(uint64(next) - 1)
		p.waiting.Store(false)
	}
}
