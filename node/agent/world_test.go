package agent

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/orlog-io/orlog/node/image"
	"github.com/orlog-io/orlog/node/runc"
)

// world stands in for runtime, images and network, which have tests of their own: it remembers what it was told.
type world struct {
	mu     sync.Mutex
	boxes  map[string]runc.Sandbox
	runs   map[string]map[string]*runc.Status
	specs  map[string]runc.Container
	nets   map[string]bool
	images map[string]Image
	news   chan runc.Event
	calls  []string
	ignore map[string]bool // containers, by name, that ignore SIGTERM
	crash  string          // the call after which the agent dies, once
	dies   func()
	gets   int                  // how often an image was looked for
	gone   func(calls int) bool // whether it is not there that time
}

func newWorld() *world {
	return &world{boxes: map[string]runc.Sandbox{}, runs: map[string]map[string]*runc.Status{}, specs: map[string]runc.Container{}, nets: map[string]bool{},
		images: map[string]Image{"app:1": {ID: "app@sha256:1", Cmd: []string{"/app"}, Layers: []string{"/none"}}}, news: make(chan runc.Event, 1000), ignore: map[string]bool{}}
}

func (w *world) did(format string, args ...any) {
	call := fmt.Sprintf(format, args...)
	w.calls = append(w.calls, call)
	if w.crash == call {
		w.crash = ""
		w.dies()
	}
}

func (w *world) OpenSandbox(_ context.Context, s runc.Sandbox) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.did("open %s", s.Name)
	w.boxes[s.ID] = s
	if w.runs[s.ID] == nil {
		w.runs[s.ID] = map[string]*runc.Status{}
	}
	return nil
}

func (w *world) Run(_ context.Context, box string, c runc.Container) (runc.Status, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if st := w.runs[box][c.ID]; st != nil {
		return *st, nil
	}
	w.did("run %s/%s %d", w.boxes[box].Name, c.Name, c.Attempt)
	st := &runc.Status{ID: c.ID, Name: c.Name, Attempt: c.Attempt, State: runc.Running, PID: 100 + len(w.calls), StartedAt: time.Now()}
	w.runs[box][c.ID], w.specs[c.Name] = st, c
	w.news <- runc.Event{SandboxID: box, ContainerID: c.ID}
	return *st, nil
}

func (w *world) Status(_ context.Context, box string) ([]runc.Status, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.runs[box] == nil {
		return nil, runc.ErrNotFound
	}
	var out []runc.Status
	for _, st := range w.runs[box] {
		out = append(out, *st)
	}
	return out, nil
}

func (w *world) Sandboxes(context.Context) ([]runc.Sandbox, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []runc.Sandbox
	for _, s := range w.boxes {
		out = append(out, s)
	}
	return out, nil
}

func (w *world) Events() <-chan runc.Event { return w.news }

func (w *world) Signal(_ context.Context, box, id string, sig syscall.Signal) error {
	w.mu.Lock()
	st := w.runs[box][id]
	if st == nil {
		w.mu.Unlock()
		return runc.ErrNotFound
	}
	w.did("signal %s %s", st.Name, sig)
	ignored := w.ignore[st.Name] && sig != syscall.SIGKILL
	w.mu.Unlock()
	if !ignored {
		w.exit(box, id, 128+int(sig))
	}
	return nil
}

func (w *world) exit(box, id string, code int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	st := w.runs[box][id]
	if st == nil || st.State == runc.Exited {
		return
	}
	st.State, st.ExitCode, st.FinishedAt, st.PID = runc.Exited, code, time.Now(), 0
	w.news <- runc.Event{SandboxID: box, ContainerID: id}
}

func (w *world) Remove(_ context.Context, box, id string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.runs[box], id)
	return nil
}

func (w *world) UpdateSandbox(context.Context, string, runc.Resources) error { return nil }

func (w *world) UpdateContainer(_ context.Context, box, id string, to runc.Resources) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.did("update %s %d %d %d", w.runs[box][id].Name, to.CPUShares, to.CPUQuota, to.MemoryBytes)
	return nil
}

func (w *world) CloseSandbox(_ context.Context, box string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, open := w.boxes[box]; !open {
		return runc.ErrNotFound
	}
	w.did("close %s", w.boxes[box].Name)
	delete(w.boxes, box)
	delete(w.runs, box)
	return nil
}

func (w *world) Get(ref string) (Image, bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	img, here := w.images[ref]
	w.gets++
	if w.gone != nil && w.gone(w.gets) {
		here = false
	}
	return img, here, nil
}

func (w *world) Pull(_ context.Context, ref string, _ [][]byte, _ func(image.Progress)) (Image, error) {
	return Image{}, fmt.Errorf("no such image %s", ref)
}

func (*world) All() ([]image.Image, error) { return nil, nil }

func (w *world) Setup(_ context.Context, uid, _, name string) (Attachment, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.nets[uid] {
		w.did("connect %s", name)
	}
	w.nets[uid] = true
	return Attachment{NetNS: "/run/netns/" + name, IPs: []netip.Addr{netip.MustParseAddr("10.9.0.7")}}, nil
}

func (w *world) Teardown(_ context.Context, uid string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.nets[uid] {
		w.did("disconnect")
	}
	delete(w.nets, uid)
	return nil
}

func (w *world) List() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []string
	for uid := range w.nets {
		out = append(out, uid)
	}
	return out
}

func (w *world) told() []string {
	if w == nil { // the runtime is real
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.calls)
}
