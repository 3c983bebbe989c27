package probe

import (
	"testing"

	v1 "k8s.io/api/core/v1"
)

func TestCounter(t *testing.T) {
	p := &v1.Probe{SuccessThreshold: 2, FailureThreshold: 3}
	for _, c := range []struct {
		kind    Kind
		answers string // + and -
		want    string // the verdict after each: ? Unknown, + Success, - Failure
	}{
		{Readiness, "+++", "-++"},
		{Readiness, "+-++", "---+"},
		{Readiness, "++--+--- ++", "-+++++" + "+-" + "-+"},
		{Liveness, "--+---", "+++++-"},
		{Startup, "--+--++", "??????+"},
		{Startup, "---", "??-"},
	} {
		counter := NewCounter(c.kind)
		got := ""
		for _, a := range c.answers {
			if a == ' ' {
				continue
			}
			counter.Observe(p, a == '+')
			got += string("?+-"[counter.Verdict])
		}
		if got != c.want {
			t.Errorf("%s %s: verdicts %s, want %s", c.kind, c.answers, got, c.want)
		}
	}
}
