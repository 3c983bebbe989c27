package storage

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/orlog-io/orlog/events"
)

// clusterKey is what the first event of a log is about.
var clusterKey = events.Key{Group: "orlog.io", Resource: "clusters", Name: "orlog"}

// EnsureFirst writes the first event of an empty log, io.orlog.cluster.created about clusters.orlog.io/orlog,
// and waits until the projection has folded it: to Kubernetes, revision 0 means "any", so no object and no
// list may have it. Call it before serving, for every backend; any number of gateways may.
func EnsureFirst(ctx context.Context, b Backend) error {
	last, err := b.Log.Last(ctx)
	if err != nil {
		return fmt.Errorf("asking the log for its end: %w", err)
	}
	if last == 0 {
		subject := events.Subject{Class: events.Desired, Key: clusterKey}
		e := events.Event{ID: "orlog-first", Subject: subject, Type: events.TypeOf("cluster", events.Created), Source: gatewaySource,
			Time: time.Now(), Actor: serverActor, UID: document{}.uid(clusterKey),
			Object: []byte(`{"apiVersion":"orlog.io/v1","kind":"Cluster","metadata":{"name":"orlog"}}`)}
		_, err := b.Log.Append(ctx, events.Entry{Event: e, Expect: events.ExpectObject(subject, 0)})
		if err != nil && !errors.Is(err, events.ErrConflict) { // a conflict: another gateway was quicker
			return fmt.Errorf("writing the first event of the log: %w", err)
		}
		last = 1
	}
	if err := b.Store.WaitFor(ctx, last); err != nil {
		return fmt.Errorf("waiting for the projection to read the log: %w", err)
	}
	return nil
}
