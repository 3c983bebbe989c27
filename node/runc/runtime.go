package runc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Options say where things are. Dir, RuncPath and ShimPath are needed.
type Options struct {
	Dir        string                        // state of all sandboxes; absolute, owned by this package alone
	RuncPath   string                        // the runc binary, absolute; see CheckRuntime
	ShimPath   string                        // the orlog-shim binary, absolute
	LogMaxSize int64                         // bytes at which a container's log is rotated; 0: 10 MiB; negative: never
	LogFiles   int                           // log files to keep for each container, the current one included; 0: 5
	Warn       func(msg string, args ...any) // like slog's; nil: dropped
}

// Runtime runs the containers of one node. Its methods may be called from many goroutines.
type Runtime struct {
	opts        Options
	boot        string
	cgroups     cgroups
	own         capabilitySet
	oomScoreMin int
	shims       shimHome
	patience    time.Duration // with a shim that does not answer

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	group  sync.WaitGroup
	hub    *hub

	mu   sync.Mutex
	pods map[string]*pod
}

// New opens the runtime's folder and takes up the pods in it: those whose shim lives are watched, those whose
// shim has died while nobody watched are cleaned up; either way their Events come. Close when done.
func New(o Options) (*Runtime, error) {
	for field, path := range map[string]string{"Dir": o.Dir, "RuncPath": o.RuncPath, "ShimPath": o.ShimPath} {
		if !filepath.IsAbs(path) {
			return nil, fmt.Errorf("runtime: Options.%s %q: want an absolute path", field, path)
		}
	}
	o.Dir = filepath.Clean(o.Dir)
	if o.LogMaxSize == 0 {
		o.LogMaxSize = 10 << 20
	}
	o.LogMaxSize = max(o.LogMaxSize, 0)
	if o.LogFiles == 0 {
		o.LogFiles = 5
	}
	if o.Warn == nil {
		o.Warn = func(string, ...any) {}
	}
	r := &Runtime{opts: o, hub: newHub(), pods: map[string]*pod{}, patience: shimPatience}
	var err error
	if r.boot, err = bootID(); err != nil {
		return nil, err
	}
	if r.cgroups, err = findCgroups("/proc/self/mountinfo"); err != nil {
		return nil, err
	}
	if r.own, err = ownCapabilities(); err != nil {
		return nil, err
	}
	if r.oomScoreMin, err = oomScoreMin(r.own); err != nil {
		return nil, err
	}
	if !r.own["SYS_RESOURCE"] {
		o.Warn("without CAP_SYS_RESOURCE no container's oom_score_adj can be lower than this process's", "lowest", r.oomScoreMin)
	}
	self, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, fmt.Errorf("runtime: %w", err)
	}
	if r.shims, err = findShimHome(r.cgroups, self); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("runtime: %w", err)
	}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	r.group.Go(func() { r.hub.run(r.ctx) })
	sandboxes, err := r.Sandboxes(r.ctx)
	if err != nil {
		r.Close()
		return nil, err
	}
	for _, s := range sandboxes {
		r.watch(r.pod(s.ID))
	}
	return r, nil
}

// Close lets go of everything; the pods run on.
func (r *Runtime) Close() {
	r.cancel()
	r.group.Wait()
}

// Events tells of changes: see Event. The channel is closed by Close.
func (r *Runtime) Events() <-chan Event { return r.hub.out }

// Sandboxes lists what is on disk, whether its processes live or not.
func (r *Runtime) Sandboxes(ctx context.Context) ([]Sandbox, error) {
	entries, err := os.ReadDir(r.opts.Dir)
	if err != nil {
		return nil, fmt.Errorf("list sandboxes: %w", err)
	}
	var out []Sandbox
	for _, e := range entries {
		if !e.IsDir() || !idPattern.MatchString(e.Name()) {
			continue
		}
		rec, err := r.readSandbox(e.Name())
		if errors.Is(err, ErrNotFound) {
			// Opened or closed half-way when the agent died: there is nothing in it to keep.
			rec.Sandbox = Sandbox{ID: e.Name()}
		} else if err != nil {
			return nil, err
		}
		out = append(out, rec.Sandbox)
	}
	return out, ctx.Err()
}

// oomScoreMin is the lowest oom_score_adj that a container can be given: without CAP_SYS_RESOURCE nobody can go
// below his own.
func oomScoreMin(own capabilitySet) (int, error) {
	if own["SYS_RESOURCE"] {
		return -1000, nil
	}
	data, err := os.ReadFile("/proc/self/oom_score_adj")
	if err != nil {
		return 0, fmt.Errorf("runtime: %w", err)
	}
	return strconv.Atoi(strings.TrimSpace(string(data)))
}
