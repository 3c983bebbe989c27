package gateway

import (
	"context"
	"log/slog"
	"sync/atomic"
)

// closing: the gateway in this process is shutting down.
var closing atomic.Bool

// upstreamLog passes on what upstream logs through klog. Its progress notes are debugging detail here, and so
// is, while shutting down, every watch that finds its connection closed.
type upstreamLog struct{ slog.Handler }

// harmless are things that upstream reports as errors at every start.
var harmless = map[string]bool{
	"The manifest file is empty, ignoring.": true,
	"Found stale data, removed previous endpoints on kubernetes service, apiserver didn't exit successfully previously": true,
}

func demoted(level slog.Level) slog.Level {
	if level < slog.LevelWarn || closing.Load() {
		return slog.LevelDebug
	}
	return level
}

// Enabled implements slog.Handler.
func (h upstreamLog) Enabled(ctx context.Context, level slog.Level) bool {
	return h.Handler.Enabled(ctx, demoted(level))
}

// Handle implements slog.Handler.
func (h upstreamLog) Handle(ctx context.Context, r slog.Record) error {
	if r.Level = demoted(r.Level); harmless[r.Message] {
		r.Level = slog.LevelDebug
	}
	if !h.Handler.Enabled(ctx, r.Level) {
		return nil
	}
	return h.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (h upstreamLog) WithAttrs(attrs []slog.Attr) slog.Handler {
	return upstreamLog{h.Handler.WithAttrs(attrs)}
}

// WithGroup implements slog.Handler.
func (h upstreamLog) WithGroup(name string) slog.Handler {
	return upstreamLog{h.Handler.WithGroup(name)}
}
