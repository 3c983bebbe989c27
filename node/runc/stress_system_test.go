//go:build system

package runc

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/orlog-io/orlog/node/shim"
)

// Many pods at once, each with containers started at once, each start asked for twice.
func TestManyAtOnce(t *testing.T) {
	b := newBench(t)
	var pods sync.WaitGroup
	for i := range 8 {
		pods.Go(func() {
			s := b.sandbox(fmt.Sprintf("many%d", i))
			var starts sync.WaitGroup
			pids := make([][2]int, 3)
			for j := range pids {
				for k := range 2 {
					starts.Go(func() {
						st, err := b.Run(b.ctx, s, b.container(fmt.Sprintf("c%d-%d", i, j), "sleep 1000"))
						if err != nil {
							t.Error(err)
						}
						pids[j][k] = st.PID
					})
				}
			}
			starts.Wait()
			for _, p := range pids {
				if p[0] != p[1] || p[0] == 0 {
					t.Errorf("two starts of one container: pids %v", p)
				}
			}
			if out, code, err := b.ExecSync(b.ctx, s, fmt.Sprintf("c%d-0-0", i), []string{"echo", "hi"}, 0, 100); string(out) != "hi\n" || code != 0 || err != nil {
				t.Errorf("exec: %q %d %v", out, code, err)
			}
			if err := b.CloseSandbox(b.ctx, s); err != nil {
				t.Error(err)
			}
			if err := b.CloseSandbox(b.ctx, s); err != nil {
				t.Errorf("close again: %v", err)
			}
		})
	}
	pods.Wait()
}

// A sandbox may be closed while containers are being started in it.
func TestCloseDuringRun(t *testing.T) {
	b := newBench(t)
	for i := range 10 {
		s := b.sandbox(fmt.Sprintf("closing%d", i))
		var runs sync.WaitGroup
		for j := range 3 {
			runs.Go(func() {
				// Whatever comes of it, nothing must stay: the end of the test looks.
				_, _ = b.Run(b.ctx, s, b.container(fmt.Sprintf("c%d", j), "sleep 1000"))
			})
		}
		if err := b.CloseSandbox(b.ctx, s); err != nil {
			t.Error(err)
		}
		runs.Wait()
		if _, err := b.Status(b.ctx, s); !errors.Is(err, ErrNotFound) {
			t.Errorf("after close: %v", err)
		}
	}
}

// What an agent leaves behind that dies in the middle is taken up or thrown away by the next.
func TestInterrupted(t *testing.T) {
	b := newBench(t)
	s := b.sandbox("half")
	rec, err := b.readSandbox(s)
	if err != nil {
		t.Fatal(err)
	}
	for name, interrupt := range map[string]func(dir string, c Container) error{
		"folder only": func(dir string, c Container) error { return os.Mkdir(dir, 0o700) },
		"mounted": func(dir string, c Container) error {
			return errors.Join(os.Mkdir(dir, 0o700), mountOverlay(dir, c.Layers))
		},
		"prepared": func(dir string, c Container) error { return b.prepare(b.ctx, b.pod(s), rec, c, dir) },
	} {
		c := b.container("a", "exit 5")
		if err := interrupt(shim.ContainerDir(b.podDir(s), c.ID), c); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		b.reopen()
		if all, err := b.Status(b.ctx, s); err != nil || len(all) != 0 {
			t.Errorf("%s: before: %+v %v", name, all, err)
		}
		b.run(s, c)
		if st := b.wait(s, c.ID); st.ExitCode != 5 {
			t.Errorf("%s: %+v", name, st)
		}
		if err := b.Remove(b.ctx, s, c.ID); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}

	// A sandbox of which only a folder and a mount exist.
	half := b.podDir(b.prefix() + "quarter")
	if err := os.MkdirAll(filepath.Join(half, shmDir), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := mountShm(filepath.Join(half, shmDir)); err != nil {
		t.Fatal(err)
	}
	b.reopen()
	b.await("word of the half-open sandbox", func() bool { return true })
	b.sandbox("quarter")
	b.run(b.prefix()+"quarter", b.container("q", "true"))
}

func TestCloseRuntimeLeavesNoGoroutine(t *testing.T) {
	before := goleak.IgnoreCurrent()
	b := newBench(t)
	s := b.sandbox("leak")
	b.run(s, b.container("a", "sleep 1000"))
	b.Close()
	goleak.VerifyNone(t, before)
	b.open()
}

// A runtime that is not fit is found out before it is needed.
func TestCheckRuntime(t *testing.T) {
	if err := CheckRuntime(built.runc); err != nil {
		t.Error(err)
	}
	for _, path := range []string{"/none", "/usr/bin/busybox"} {
		if err := CheckRuntime(path); err == nil {
			t.Errorf("%s passed", path)
		}
	}
}
