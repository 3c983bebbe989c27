//go:build system

package runc

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/orlog-io/orlog/node/runc/runctest"
	"github.com/orlog-io/orlog/node/shim"
)

// built holds the binaries that the tests drive, built once from this module.
var built struct{ runc, shim string }

func TestMain(m *testing.M) {
	os.Exit(func() int {
		var remove func()
		var err error
		if built.runc, built.shim, remove, err = runctest.Build(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer remove()
		code := m.Run()
		if err := goleak.Find(); err != nil && code == 0 {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
		return code
	}())
}

// bench is one runtime in a folder of its own, with what the tests need around it.
type bench struct {
	testing.TB
	*Runtime
	opts  Options
	layer string
	logs  string
	ctx   context.Context
	seen  chan Event
}

// newBench opens a runtime and sees to it that nothing of it is left when the test ends.
func newBench(t testing.TB) *bench {
	t.Helper()
	dir, err := os.MkdirTemp("", "orlog-runc-test-")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	b := &bench{TB: t, ctx: ctx, layer: filepath.Join(dir, "layer"), logs: filepath.Join(dir, "logs")}
	b.opts = Options{Dir: filepath.Join(dir, "state"), RuncPath: built.runc, ShimPath: built.shim,
		Warn: func(msg string, args ...any) { t.Log(append([]any{msg}, args...)...) }}
	t.Cleanup(func() {
		defer cancel()
		b.leaveNothing(dir)
	})
	runctest.Busybox(t, b.layer)
	b.open()
	return b
}

// open makes the Runtime, as an agent that starts does.
func (b *bench) open() {
	b.Helper()
	r, err := New(b.opts)
	if err != nil {
		b.Fatal(err)
	}
	b.Runtime, b.seen = r, make(chan Event, 1000)
	go func(seen chan Event) {
		defer close(seen)
		for e := range r.Events() {
			seen <- e
		}
	}(b.seen)
}

// reopen is what a restart of the agent is to the runtime.
func (b *bench) reopen() {
	b.Helper()
	b.Close()
	b.open()
}

func (b *bench) leaveNothing(dir string) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	all, err := b.Sandboxes(ctx)
	if err != nil {
		b.Error(err)
	}
	for _, s := range all {
		if said, _ := os.ReadFile(filepath.Join(b.podDir(s.ID), shim.LogFile)); len(said) > 0 {
			b.Errorf("the shim of %s complained: %s", s.ID, said)
		}
		if err := b.CloseSandbox(ctx, s.ID); err != nil {
			b.Error(err)
		}
	}
	b.Close()
	b.assertClean()
	if err := os.RemoveAll(dir); err != nil {
		b.Error(err)
	}
}

// assertClean fails the test where a mount, a cgroup, a process or a file of a sandbox is left.
func (b *bench) assertClean() {
	b.Helper()
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		b.Fatal(err)
	}
	if strings.Contains(string(mounts), b.opts.Dir) {
		b.Errorf("mounts left below %s", b.opts.Dir)
	}
	for _, at := range b.cgroups.mounts {
		left, _ := filepath.Glob(filepath.Join(at, "orlog", "pod"+b.prefix()+"*"))
		if len(left) > 0 {
			b.Errorf("cgroups left: %v", left)
		}
	}
	procs, err := filepath.Glob("/proc/[0-9]*/cwd")
	if err != nil {
		b.Fatal(err)
	}
	for _, p := range procs {
		if cwd, err := os.Readlink(p); err == nil && strings.HasPrefix(cwd, b.opts.Dir) {
			b.Errorf("process left: %s works in %s", p, cwd)
		}
	}
	if left, _ := os.ReadDir(b.opts.Dir); len(left) > 0 {
		b.Errorf("files left: %v", left)
	}
}

// prefix makes the sandboxes' names unique to this test process, because cgroups are the machine's.
func (b *bench) prefix() string { return fmt.Sprintf("test%d-", os.Getpid()) }

// sandbox opens a pod with the host's network, changed by edit.
func (b *bench) sandbox(name string, edit ...func(*Sandbox)) string {
	b.Helper()
	s := Sandbox{ID: b.prefix() + name, Namespace: "default", Name: name, Hostname: name}
	for _, e := range edit {
		e(&s)
	}
	if err := b.OpenSandbox(b.ctx, s); err != nil {
		b.Fatal(err)
	}
	return s.ID
}

// container is a shell script to run, changed by edit.
func (b *bench) container(name, script string, edit ...func(*Container)) Container {
	c := Container{
		ID: name + "-0", Name: name, Layers: []string{b.layer}, Args: []string{"sh", "-c", script},
		LogPath: filepath.Join(b.logs, name, "0.log"),
	}
	for _, e := range edit {
		e(&c)
	}
	return c
}

func (b *bench) run(sandbox string, c Container) Status {
	b.Helper()
	st, err := b.Run(b.ctx, sandbox, c)
	if err != nil {
		b.Fatal(err)
	}
	return st
}

func (b *bench) wait(sandbox, container string) Status {
	b.Helper()
	st, err := b.Wait(b.ctx, sandbox, container)
	if err != nil {
		b.Fatal(err)
	}
	return st
}

// log returns a container's log lines without their times, which it checks.
func (b *bench) log(name string) []string {
	b.Helper()
	data, err := os.ReadFile(filepath.Join(b.logs, name, "0.log"))
	if err != nil {
		b.Fatal(err)
	}
	var out []string
	for line := range strings.Lines(string(data)) {
		at, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		if _, err := time.Parse("2006-01-02T15:04:05.000000000Z", at); err != nil {
			b.Errorf("log line %q: %v", line, err)
		}
		out = append(out, rest)
	}
	return out
}

// await waits for an event that makes good true.
func (b *bench) await(what string, good func() bool) {
	b.Helper()
	for !good() {
		select {
		case _, ok := <-b.seen:
			if !ok {
				b.Fatalf("events ended before %s", what)
			}
		case <-b.ctx.Done():
			b.Fatalf("no %s", what)
		}
	}
}

// awaitLog waits until a container has said something.
func (b *bench) awaitLog(name, text string) {
	b.Helper()
	for tick := time.NewTicker(2 * time.Millisecond); ; {
		data, _ := os.ReadFile(filepath.Join(b.logs, name, "0.log"))
		if strings.Contains(string(data), text) {
			tick.Stop()
			return
		}
		select {
		case <-tick.C:
		case <-b.ctx.Done():
			b.Fatalf("%s never said %q: %q", name, text, data)
		}
	}
}
