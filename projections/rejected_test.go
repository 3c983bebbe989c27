package projections

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/orlog-io/orlog/events"
)

// TestMessagesThatAreNoEvents: they move the position and the object's newest event, which the next writer
// expects, and nothing else; who folds them one by one gets what who folds them at once does; and it is said.
func TestMessagesThatAreNoEvents(t *testing.T) {
	stored := time.Unix(7, 0).UTC()
	web := events.Subject{Class: events.Observed, Key: events.Key{Resource: "pods", Namespace: "default", Name: "web"}, Node: "n1"}
	made := events.Event{Sequence: 1, Stored: stored, ID: "one", Subject: events.Subject{Class: events.Desired, Key: web.Key}, Type: "io.orlog.pod.created",
		Source: "gateway", Actor: "a", UID: "u", Time: stored, Object: []byte(`{"spec":{}}`)}
	all := []events.Event{made,
		events.Read(events.Wire{Subject: web.String(), Data: []byte("x")}, 2, stored),
		events.Read(events.Wire{Subject: "orlog.observed.what", Data: []byte("x")}, 3, stored),
		events.Read(events.Wire{Subject: web.String()}, 4, stored),
	}
	var said strings.Builder
	logger := slog.New(slog.NewTextHandler(&said, nil))
	one := open(t, t.TempDir(), Options{History: true, Logger: logger})
	apply(t, one, all)
	atOnce := open(t, t.TempDir(), Options{History: true, Logger: slog.New(slog.DiscardHandler)})
	if err := atOnce.Apply(all); err != nil {
		t.Fatal(err)
	}
	a, errA := one.Digest()
	b, errB := atOnce.Digest()
	if a != b || errA != nil || errB != nil {
		t.Errorf("digests %s, %s; %v, %v", a, b, errA, errB)
	}
	v := one.Now()
	defer v.Close()
	s, ok, err := v.Get(web.Key)
	if err != nil || !ok || string(s.Object) != `{"spec":{}}` || s.Revision != 1 || s.Observed != 4 || one.Position() != 4 {
		t.Errorf("state %+v, %v, %v at %d", s, ok, err, one.Position())
	}
	if n := strings.Count(said.String(), "is no event"); n != 3 || !strings.Contains(said.String(), "orlog.observed.what") || !strings.Contains(said.String(), "system:node:n1") {
		t.Errorf("said %d times:\n%s", n, said.String())
	}
}
