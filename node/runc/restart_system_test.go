//go:build system

package runc

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/orlog-io/orlog/node/shim"
)

// A new Runtime finds what ran, and what ended while there was none.
func TestAgentRestart(t *testing.T) {
	b := newBench(t)
	s := b.sandbox("restart")
	stays := b.run(s, b.container("stays", "sleep 1000"))
	b.run(s, b.container("ends", `trap 'echo bye; exit 6' TERM; echo ready; while :; do sleep 0.01; done`))
	b.awaitLog("ends", "ready")
	b.Close()
	all, err := b.Status(b.ctx, s) // reading needs no running goroutine
	if err != nil {
		t.Fatal(err)
	}
	for _, st := range all {
		if st.ID == "ends-0" {
			syscall.Kill(st.PID, syscall.SIGTERM)
		}
	}
	b.awaitLog("ends", "bye")
	b.open()
	found, err := b.Sandboxes(b.ctx)
	if err != nil || len(found) != 1 || found[0].Name != "restart" {
		t.Fatalf("sandboxes %+v %v", found, err)
	}
	if err := b.OpenSandbox(b.ctx, found[0]); err != nil {
		t.Fatal(err)
	}
	if st := b.wait(s, "ends-0"); st.ExitCode != 6 {
		t.Errorf("ended while away: %+v", st)
	}
	again := b.run(s, b.container("stays", "sleep 1000"))
	if again.PID != stays.PID || again.State != Running || !again.StartedAt.Equal(stays.StartedAt) {
		t.Errorf("before %+v, after %+v", stays, again)
	}
}

// A shim that is killed takes its containers with it, and they are reported.
func TestShimKilled(t *testing.T) {
	for _, watched := range []bool{true, false} {
		t.Run("watched="+strconv.FormatBool(watched), func(t *testing.T) {
			b := newBench(t)
			s := b.sandbox("shimkill")
			st := b.run(s, b.container("a", "sleep 1000"))
			if !watched {
				b.Close()
			}
			syscall.Kill(shimOf(t, b, s), syscall.SIGKILL)
			if !watched {
				b.open()
			}
			got := Status{}
			b.await("exit of the container", func() bool {
				all, err := b.Status(b.ctx, s)
				if err != nil {
					t.Fatal(err)
				}
				got = all[0]
				return got.State == Exited
			})
			if got.ExitCode != 137 || got.Reason != ReasonUnknown || !strings.Contains(got.Message, "shim") {
				t.Errorf("status %+v", got)
			}
			if data, err := os.ReadFile("/proc/" + strconv.Itoa(st.PID) + "/stat"); err == nil && !strings.Contains(string(data), ") Z ") {
				t.Errorf("process %d is left: %s", st.PID, data)
			}
			// The sandbox can be used again.
			b.sandbox("shimkill")
			next := b.container("a", "exit 2", func(c *Container) { c.ID, c.Attempt = "a-1", 1 })
			b.run(s, next)
			if st := b.wait(s, "a-1"); st.ExitCode != 2 {
				t.Errorf("next attempt %+v", st)
			}
			if all, err := b.Status(b.ctx, s); err != nil || len(all) != 2 || all[0].Attempt != 0 {
				t.Errorf("both attempts: %+v %v", all, err)
			}
		})
	}
}

// After a restart of the machine nothing runs, and the records say so.
func TestNodeRestart(t *testing.T) {
	b := newBench(t)
	s := b.sandbox("reboot")
	b.run(s, b.container("a", "sleep 1000"))
	shimPID := shimOf(t, b, s)
	b.Close()
	// Another boot is another id; the processes of this one are ended by hand.
	path := filepath.Join(b.podDir(s), sandboxFile)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.endShim(s); err != nil {
		t.Fatal(err)
	}
	if err := b.cgroups.kill(b.ctx, "/orlog/pod"+s); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(strings.Replace(string(data), b.boot, "an-earlier-boot", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	b.open()
	b.await("exit of the container", func() bool {
		all, err := b.Status(b.ctx, s)
		if err != nil {
			t.Fatal(err)
		}
		return all[0].State == Exited && all[0].ExitCode == 255 && strings.Contains(all[0].Message, "restarted")
	})
	b.sandbox("reboot")
	if now := shimOf(t, b, s); now == shimPID {
		t.Errorf("the shim is still %d", now)
	}
}

func shimOf(t *testing.T, b *bench, sandbox string) int {
	t.Helper()
	if _, err := b.hello(b.ctx, sandbox); err != nil { // it has written its file
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(b.podDir(sandbox), shim.PIDFile))
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.Fields(string(data))[0])
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// Where the agent is in a cgroup of its own, as under a service manager, its shims are not.
func TestShimOutsideAgentCgroup(t *testing.T) {
	b := newBench(t)
	if b.cgroups.unified == "" {
		t.Fatal("cgroup2 is mounted nowhere")
	}
	own := filepath.Join(b.cgroups.unified, b.prefix()+"agent")
	if err := os.Mkdir(own, 0o755); err != nil {
		t.Fatal(err)
	}
	enter := func(dir string) {
		if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(os.Getpid())), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	enter(own)
	defer func() {
		enter(b.cgroups.unified)
		if err := os.Remove(own); err != nil {
			t.Error(err)
		}
	}()
	b.reopen()
	s := b.sandbox("cgroup")
	b.run(s, b.container("a", "sleep 1000"))
	data, err := os.ReadFile("/proc/" + strconv.Itoa(shimOf(t, b, s)) + "/cgroup")
	if err != nil || !strings.Contains(string(data), "0::"+shimsCgroup+"\n") {
		t.Errorf("the shim's cgroups: %s %v", data, err)
	}
}

// A shim that hangs does not keep its sandbox from being closed.
func TestCloseWithHungShim(t *testing.T) {
	b := newBench(t)
	b.patience = 100 * time.Millisecond
	s := b.sandbox("hung")
	b.run(s, b.container("a", "sleep 1000"))
	if err := syscall.Kill(shimOf(t, b, s), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if err := b.CloseSandbox(b.ctx, s); err != nil {
		t.Error(err)
	}
	b.assertClean()
}
