package narrator

import (
	"sync/atomic"

	"github.com/orlog-io/orlog/events"
)

// Place tells others how far the narrator has come. The zero Place is ready to use.
type Place struct{ told atomic.Uint64 }

// Position is the newest event of the log that needs no telling any more; 0 while no narrator runs.
func (p *Place) Position() events.Sequence { return events.Sequence(p.told.Load()) }

// comesTo says which event is the next one to tell.
func (p *Place) comesTo(next events.Sequence) {
	if p != nil && next > 0 {
		p.told.Store(uint64(next) - 1)
	}
}

// ends says that nobody tells here any more.
func (p *Place) ends() {
	if p != nil {
		p.told.Store(0)
	}
}
