package agent

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"

	"github.com/go-logr/logr"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/record"
	"k8s.io/client-go/tools/reference"
	"k8s.io/klog/v2"

	"github.com/orlog-io/orlog/node/agent/ladder"
	"github.com/orlog-io/orlog/node/probe"
)

// recorder writes Kubernetes Events through the API, as people know them from kubectl describe. They are a
// courtesy: what must not be lost is in the reports. While the API cannot keep up they are dropped and counted.
type recorder struct {
	queue   chan note
	dropped atomic.Uint64
	rec     record.EventRecorder
	sink    record.EventSink
	cast    record.EventBroadcaster
	log     *slog.Logger
}

// sink drops, and counts, events whose namespace is going or gone: nobody will look for them.
type sink struct {
	record.EventSink
	dropped *atomic.Uint64
}

// Create writes a new event.
func (s sink) Create(e *v1.Event) (*v1.Event, error) { return s.settle(e)(s.EventSink.Create(e)) }

// Patch counts an event up.
func (s sink) Patch(e *v1.Event, data []byte) (*v1.Event, error) {
	return s.settle(e)(s.EventSink.Patch(e, data))
}

func (s sink) settle(e *v1.Event) func(*v1.Event, error) (*v1.Event, error) {
	return func(out *v1.Event, err error) (*v1.Event, error) {
		namespaceGone := apierrors.IsNotFound(err) && strings.Contains(err.Error(), "namespaces ")
		if namespaceGone || apierrors.HasStatusCause(err, v1.NamespaceTerminatingCause) {
			s.dropped.Add(1)
			return e, nil
		}
		return out, err
	}
}

type note struct {
	about           runtime.Object
	kind, why, text string
}

func newRecorder(api API, node string, log *slog.Logger) *recorder {
	r := &recorder{queue: make(chan note, 1024), log: log}
	if api == nil {
		return r
	}
	r.cast = record.NewBroadcaster(record.WithContext(klog.NewContext(context.Background(), logr.FromSlogHandler(log.Handler()))))
	r.sink = sink{api.Events(), &r.dropped}
	r.rec = r.cast.NewRecorder(scheme, v1.EventSource{Component: "kubelet", Host: node})
	return r
}

// run passes events on until ctx ends.
func (r *recorder) run(ctx context.Context) error {
	if r.rec == nil {
		<-ctx.Done()
		return nil
	}
	watch := r.cast.StartRecordingToSink(r.sink)
	defer r.cast.Shutdown()
	defer watch.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case n := <-r.queue:
			r.rec.Event(n.about, n.kind, n.why, n.text)
		}
	}
}

// put queues an event; it never blocks.
func (r *recorder) put(n note) {
	if r.rec == nil {
		return
	}
	select {
	case r.queue <- n:
	default:
		if r.dropped.Add(1)%1000 == 1 {
			r.log.Warn("dropping Kubernetes Events: the API does not keep up", "dropped", r.dropped.Load())
		}
	}
}

// event is about the pod as a whole.
func (w *worker) event(kind, why, text string) {
	w.mu.Lock()
	pod := w.seen.Pod
	w.mu.Unlock()
	if ref, err := reference.GetReference(scheme, pod); err == nil {
		w.a.events.put(note{ref, kind, why, text})
	}
}

// containerEvent is about one of its containers.
func (w *worker) containerEvent(pod *v1.Pod, name, kind, why, text string) {
	ref, err := reference.GetReference(scheme, pod)
	if err != nil {
		return
	}
	if name != "" {
		ref.FieldPath = fieldPath(pod, name)
	}
	w.a.events.put(note{ref, kind, why, text})
}

func fieldPath(pod *v1.Pod, name string) string {
	for i := range pod.Spec.InitContainers {
		if pod.Spec.InitContainers[i].Name == name {
			return fmt.Sprintf("spec.initContainers{%s}", name)
		}
	}
	for i := range pod.Spec.EphemeralContainers {
		if pod.Spec.EphemeralContainers[i].Name == name {
			return fmt.Sprintf("spec.ephemeralContainers{%s}", name)
		}
	}
	return fmt.Sprintf("spec.containers{%s}", name)
}

// probeFailed makes the event Unhealthy.
func (a *Agent) probeFailed(t probe.Target, k probe.Kind, output string) {
	w := a.worker(t.PodUID)
	if w == nil {
		return
	}
	w.mu.Lock()
	pod := w.seen.Pod
	w.mu.Unlock()
	w.containerEvent(pod, t.Place.Container.Name, v1.EventTypeWarning, "Unhealthy", fmt.Sprintf("%s probe failed: %s", k, output))
}

// backOffEvents tells of containers that wait for their restart.
func (w *worker) backOffEvents(pod *v1.Pod, was, is *v1.PodStatus) {
	lists := [][2][]v1.ContainerStatus{{was.InitContainerStatuses, is.InitContainerStatuses}, {was.ContainerStatuses, is.ContainerStatuses}}
	for _, l := range lists {
		for i, c := range l[1] {
			if c.State.Waiting == nil || i < len(l[0]) && l[0][i].State.Waiting != nil && l[0][i].State.Waiting.Reason == c.State.Waiting.Reason {
				continue
			}
			switch c.State.Waiting.Reason {
			case ladder.ReasonCrashLoop:
				w.containerEvent(pod, c.Name, v1.EventTypeWarning, "BackOff", fmt.Sprintf("Back-off restarting failed container %s in pod %s", c.Name, w.rec))
			case ladder.ReasonImagePullBackOff:
				message, _, _ := strings.Cut(c.State.Waiting.Message, ": ") // it names the image, which may be a volume's
				w.containerEvent(pod, c.Name, v1.EventTypeNormal, "BackOff", message)
				w.containerEvent(pod, c.Name, v1.EventTypeWarning, "Failed", "Error: ImagePullBackOff")
			}
		}
	}
}
