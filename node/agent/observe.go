package agent

import (
	"context"
	"log/slog"
	"time"

	v1 "k8s.io/api/core/v1"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/events/tracing"
	"github.com/orlog-io/orlog/node/agent/ladder"
)

// traceLife is how long what the node does for a pod belongs to the trace of the event that asked for it. Restarts and
// attempts that come later are another story: a trace of months helps nobody.
const traceLife = 10 * time.Minute

// why is the event that led to what the worker does now.
func (w *worker) why() events.Cause {
	w.mu.Lock()
	defer w.mu.Unlock()
	return events.Cause{Sequence: w.seen.Cause, Correlation: w.seen.Correlation, TraceParent: w.seen.TraceParent}
}

// attrs describe the worker's pod, and why it does what it does, in a log line.
func (w *worker) attrs() slog.Attr { return w.why().LogAttrs(w.key) }

func (w *worker) log(what string, err error) {
	w.a.log.LogAttrs(context.Background(), slog.LevelWarn, what, w.attrs(), slog.Any(events.LogError, err))
}

// stepped notes what a step came to: in the metrics, in the trace, and in the log where it failed. It began at began;
// waited of that it spent waiting for its turn.
func (w *worker) stepped(step ladder.Step, began time.Time, waited time.Duration, err error) {
	name, measured := stepNames[step.Kind]
	if !measured {
		return
	}
	took := time.Since(began) - waited
	w.a.o.metrics.stepped(step.Kind, took, err)
	w.trace(name, step.Container, began.Add(waited), err)
	level, what := slog.LevelDebug, "step done"
	if err != nil {
		level, what = slog.LevelWarn, "step failed"
	}
	if !w.a.log.Enabled(context.Background(), level) {
		return
	}
	attrs := []slog.Attr{w.attrs(), slog.String("step", name), slog.Duration("took", took)}
	if step.Container != "" {
		attrs = append(attrs, slog.String("container", step.Container))
	}
	if err != nil {
		attrs = append(attrs, slog.Any(events.LogError, err))
	}
	w.a.log.LogAttrs(context.Background(), level, what, attrs...)
}

// trace makes the span of a step that has just ended.
func (w *worker) trace(name, container string, began time.Time, err error) {
	w.mu.Lock()
	over := w.traceUntil.Before(began)
	w.mu.Unlock()
	why := w.why()
	if over || !w.a.tracer.Traces(why.TraceParent) {
		return
	}
	attrs := tracing.Of(w.key, why)
	if container != "" {
		attrs = append(attrs, tracing.Container.String(container))
	}
	span, _ := w.a.tracer.Start(why.TraceParent, "pod "+name, began, attrs...)
	tracing.End(span, err)
}

// started notes that the pod has come up, where this start of a container was the last one that it needed.
func (w *worker) started(pod *v1.Pod, step ladder.Step, o ladder.Outcome) {
	if step.Kind != ladder.Start || o.Err != nil || o.Ended || o.Attempt != 0 {
		return
	}
	last := false
	for i := range pod.Spec.Containers {
		c := w.rec.Containers[pod.Spec.Containers[i].Name]
		if c == nil || c.ID == "" {
			return
		}
		last = last || pod.Spec.Containers[i].Name == step.Container
	}
	if last {
		w.a.o.metrics.starts.Observe(time.Since(w.rec.StartTime).Seconds())
		w.trace("start", "", w.rec.StartTime, nil)
	}
}
