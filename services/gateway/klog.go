package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"sync/atomic"

	"k8s.io/klog/v2"
)

// ErrUpstream: upstream's server gave up in a way that would have ended the process.
var ErrUpstream = errors.New("the API server gave up")

// What klog, which is process-wide, is told about the gateway that runs.
var (
	// closing: it is shutting down.
	closing atomic.Bool
	// giveUp ends its Run.
	giveUp atomic.Pointer[context.CancelCauseFunc]
	// lastNote is what klog logged last.
	lastNote atomic.Pointer[string]
)

// redirectKlog sends upstream's log to ours, and makes a fatal error of upstream end Run instead of the
// process: a start-up hook that finds its context ended while shutting down is no reason to die halfway.
func redirectKlog(logger *slog.Logger) {
	closing.Store(false)
	klog.SetSlogLogger(slog.New(upstreamLog{logger.Handler()}))
	klog.OsExit = func(code int) {
		end := giveUp.Load()
		if end == nil {
			os.Exit(code)
		}
		note := "without a word"
		if last := lastNote.Load(); last != nil {
			note = *last
		}
		(*end)(fmt.Errorf("%w: %s", ErrUpstream, note))
		runtime.Goexit() // klog.Fatal does not return
	}
}

// harmless are things that upstream reports as errors at every start.
var harmless = map[string]bool{
	"The manifest file is empty, ignoring.": true,
	"Found stale data, removed previous endpoints on kubernetes service, apiserver didn't exit successfully previously":                                                   true,
	"Error removing old endpoints from kubernetes service: no API server IP addresses were listed in storage, refusing to erase all endpoints for the kubernetes Service": true,
}

// upstreamLog passes on what upstream logs through klog. Its progress notes are debugging detail here, and so
// is, while shutting down, every watch that finds its connection closed.
type upstreamLog struct{ slog.Handler }

// Enabled implements slog.Handler. Everything is looked at, because klog passes on what is fatal as a note.
func (h upstreamLog) Enabled(context.Context, slog.Level) bool { return true }

// Handle implements slog.Handler.
func (h upstreamLog) Handle(ctx context.Context, r slog.Record) error {
	lastNote.Store(&r.Message)
	if r.Level < slog.LevelWarn || closing.Load() || harmless[r.Message] {
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
