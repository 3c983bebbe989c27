package storage

import (
	"context"

	"github.com/orlog-io/orlog/events"
)

// Attribution says on whose authority, because of what and through which request a write happens. It fills
// the event's fields of the same names.
type Attribution struct {
	// Actor is the authenticated identity; OnBehalfOf the one it acts for, "" where itself.
	Actor, OnBehalfOf string
	// Cause is the event that led to this request, Correlation the first of its chain; 0 where none.
	Cause, Correlation events.Sequence
	// Reason is a person's words or a decision record. May be "".
	Reason string
	// Subresource ("status", "scale", "" for the object itself) and Verb ("create", "update", "patch",
	// "delete") are the request's: they help to name the event.
	Subresource, Verb string
	// Source is the component; "" means "gateway".
	Source      string
	TraceParent string
}

// Who acts where a request carries no attribution: the API server's own loopback work.
const (
	serverActor   = "system:apiserver"
	gatewaySource = "gateway"
)

type attributionKey struct{}

// WithAttribution makes the writes of ctx carry a.
func WithAttribution(ctx context.Context, a Attribution) context.Context {
	return context.WithValue(ctx, attributionKey{}, a)
}

// AttributionFrom returns what WithAttribution put in; known is false where nothing was.
func AttributionFrom(ctx context.Context) (a Attribution, known bool) {
	a, known = ctx.Value(attributionKey{}).(Attribution)
	return a, known
}

type sequenceKey struct{}

// WithSequence makes Get, GetList and Watch of ctx answer as of seq (0 is ignored), and every write fail with
// 405. A sequence that the log has not reached gives 504.
func WithSequence(ctx context.Context, seq events.Sequence) context.Context {
	return context.WithValue(ctx, sequenceKey{}, seq)
}

// SequenceFrom returns what WithSequence put in; 0 where ctx reads the present.
func SequenceFrom(ctx context.Context) events.Sequence {
	seq, _ := ctx.Value(sequenceKey{}).(events.Sequence)
	return seq
}
