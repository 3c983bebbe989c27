package events

import "log/slog"

// Keys of structured log lines. Every line about an event or a decision uses these, so that one search finds all that
// was said about an event, whichever component said it.
const (
	// LogObject is the object's key as [Key.String] has it, LogSequence the event's place in the log.
	LogObject   = "object"
	LogSequence = "sequence"
	LogType     = "type"
	// LogCause is the event that led to it, LogCorrelation the first of the chain; left out where it starts one.
	LogCause       = "cause"
	LogCorrelation = "correlation"
	// LogTrace is the traceparent; left out where there is none.
	LogTrace = "traceparent"
	LogError = "error"
)

// LogAttrs describes the event in a log line: object, sequence, type, and what led to it.
func (e Event) LogAttrs() slog.Attr {
	c := Cause{Sequence: e.Cause, Correlation: e.Correlation, TraceParent: e.TraceParent}
	attrs := []any{slog.String(LogObject, e.Subject.Key.String())}
	if e.Sequence != 0 {
		attrs = append(attrs, slog.Uint64(LogSequence, uint64(e.Sequence)))
	}
	return slog.Group("", append(append(attrs, slog.String(LogType, e.Type)), c.attrs()...)...)
}

// LogAttrs describes, in a log line, something done about an object because of the cause.
func (c Cause) LogAttrs(about Key) slog.Attr {
	return slog.Group("", append([]any{slog.String(LogObject, about.String())}, c.attrs()...)...)
}

func (c Cause) attrs() []any {
	var out []any
	if c.Sequence != 0 {
		out = append(out, slog.Uint64(LogCause, uint64(c.Sequence)))
	}
	if c.Correlation != 0 {
		out = append(out, slog.Uint64(LogCorrelation, uint64(c.Correlation)))
	}
	if c.TraceParent != "" {
		out = append(out, slog.String(LogTrace, c.TraceParent))
	}
	return out
}
