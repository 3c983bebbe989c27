package main

import (
	"strings"
	"testing"

	"github.com/orlog-io/orlog/events"
)

// TestTailShowsRejected: what a node put on the log that is no event is there to be seen, from whom, and why.
func TestTailShowsRejected(t *testing.T) {
	e := events.Read(events.Wire{Subject: "orlog.observed.core.pods.shop.web-1.vm", Data: []byte("nonsense")}, 7, testNow)
	var out strings.Builder
	if err := newEventPrinter(&out, false, false).print(e); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"7", "message.rejected", "core/pods/shop/web-1", "node vm", "no event", "ce-time"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in: %s", want, out.String())
		}
	}
}
