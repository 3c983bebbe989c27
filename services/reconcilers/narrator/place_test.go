package narrator

import (
	"testing"

	"github.com/orlog-io/orlog/events"
)

func TestPlace(t *testing.T) {
	var p *Place
	p.comesTo(3) // nobody asks
	p.ends()
	p = &Place{}
	check := func(what string, want events.Sequence) {
		t.Helper()
		if got := p.Position(); got != want {
			t.Errorf("%s: at %d, want %d", what, got, want)
		}
	}
	p.comesTo(0)
	check("before the first", 0)
	p.comesTo(20)
	check("with 20 in hand", 19)
	p.ends()
	check("when nobody tells", 0)
}
