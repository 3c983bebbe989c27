package gateway

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/orlog-io/orlog/events"
)

// portClaims are the claims of node ports that all gateways see, each an object on the volatile log that
// compare-and-swap lets one gateway write.
type portClaims interface {
	// take claims a port. Where another gateway's claim holds it is not won. until is when the claim ends by
	// itself, whoever's it is.
	take(ctx context.Context, port int) (until time.Time, won bool, err error)
	// giveBack ends this gateway's claims of the ports that which chooses.
	giveBack(ctx context.Context, which func(port int) bool) error
}

// claimResource is the resource under which claims stand on the volatile log. They are no API objects.
const claimResource = "nodeportclaims"

// loggedClaims is portClaims on a log.
type loggedClaims struct {
	log    events.Log
	now    func() time.Time
	holder string // this gateway, since it started
	own    map[int]events.Event
}

func newPortClaims(log events.Log, now func() time.Time) *loggedClaims {
	return &loggedClaims{log: log, now: now, holder: rand.Text(), own: map[int]events.Event{}}
}

// event makes a claim, or its end.
func (c *loggedClaims) event(port int, verb events.Verb) (events.Event, error) {
	name := strconv.Itoa(port)
	object, err := json.Marshal(map[string]any{"kind": "NodePortClaim", "metadata": map[string]string{"name": name, "uid": c.holder}, "holder": c.holder})
	return events.Event{Subject: events.Subject{Class: events.Desired, Key: events.Key{Group: "orlog.io", Resource: claimResource, Name: name}},
		ID: rand.Text(), Type: events.TypeOf("NodePortClaim", verb), Source: "gateway", Actor: systemControllers + "gateway", UID: c.holder,
		Time: c.now().UTC(), Object: object}, err
}

func (c *loggedClaims) take(ctx context.Context, port int) (until time.Time, won bool, err error) {
	claim, err := c.event(port, events.Created)
	if err != nil {
		return until, false, err
	}
	was, err := c.log.LastOn(ctx, claim.Subject.AnyNode())
	if err != nil && !errors.Is(err, events.ErrNotFound) {
		return until, false, err
	}
	if err == nil && !was.IsDeletion() {
		// By the log's clock where it was claimed, by this one now.
		if until = was.Stored.Add(claimFor); c.now().Before(until) {
			return until, false, nil
		}
	}
	until = c.now().Add(claimFor)
	_, err = c.log.Append(ctx, events.Entry{Event: claim, Expect: events.ExpectClass(claim.Subject, was.Sequence)})
	switch {
	case errors.Is(err, events.ErrConflict):
		return until, false, nil
	case err != nil:
		return until, false, err
	}
	c.own[port] = claim
	return until, true, nil
}

func (c *loggedClaims) giveBack(ctx context.Context, which func(port int) bool) error {
	for port, claim := range c.own {
		if !which(port) {
			continue
		}
		is, err := c.log.LastOn(ctx, claim.Subject.AnyNode())
		if err != nil && !errors.Is(err, events.ErrNotFound) {
			return fmt.Errorf("node ports: the claim of %d: %w", port, err)
		}
		if err == nil && is.ID == claim.ID { // else it had ended, and is another's by now
			end, err := c.event(port, events.Deleted)
			if err != nil {
				return err
			}
			_, err = c.log.Append(ctx, events.Entry{Event: end, Expect: events.ExpectClass(end.Subject, is.Sequence)})
			if err != nil && !errors.Is(err, events.ErrConflict) {
				return fmt.Errorf("node ports: ending the claim of %d: %w", port, err)
			}
		}
		delete(c.own, port)
	}
	return nil
}
