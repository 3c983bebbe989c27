package narrator

import (
	"testing"

	"github.com/orlog-io/orlog/events"
)

func TestPlace(t *testing.T) {
	projection := func() events.Sequence { return 50 }
	var p *Place
	p.reads(3) // nobody asks
	p.tells(3)
	p = &Place{}
	check := func(what string, want events.Sequence) {
		t.Helper()
		if got := p.Position(projection); got != want {
			t.Errorf("%s: at %d, want %d", what, got, want)
		}
	}
	check("before the first", 0)
	p.reads(11)
	check("with nothing in hand it is where the projection is", 50)
	p.tells(20)
	check("with 20 in hand", 19)
	p.reads(21)
	check("told", 50)
	p.reads(61)
	check("ahead of the projection", 60)
}
