//go:build system

package runc

import (
	"errors"
	"slices"
	"strings"
	"syscall"
	"testing"
)

func TestRunExitAndLog(t *testing.T) {
	b := newBench(t)
	s := b.sandbox("exit")
	st := b.run(s, b.container("a", `echo out; echo err >&2; printf half; exit 3`))
	if st.State != Running && st.State != Exited {
		t.Errorf("after Run: %+v", st)
	}
	st = b.wait(s, "a-0")
	if st.ExitCode != 3 || st.State != Exited || st.Reason != ReasonError || st.Signal != 0 || st.FinishedAt.Before(st.StartedAt) {
		t.Errorf("status %+v", st)
	}
	got := b.log("a")
	slices.Sort(got)
	if want := []string{"stderr F err", "stdout F out", "stdout P half"}; !slices.Equal(got, want) {
		t.Errorf("log %q, want %q", got, want)
	}
	b.await("exit event", func() bool { return true })
	if again := b.run(s, b.container("a", "true")); again.ExitCode != 3 {
		t.Errorf("run again: %+v", again)
	}
	if err := b.Remove(b.ctx, s, "a-0"); err != nil {
		t.Fatal(err)
	}
	if err := b.Remove(b.ctx, s, "a-0"); err != nil {
		t.Errorf("remove again: %v", err)
	}
	if all, err := b.Status(b.ctx, s); err != nil || len(all) != 0 {
		t.Errorf("after remove: %v %v", all, err)
	}
}

func TestSignal(t *testing.T) {
	b := newBench(t)
	s := b.sandbox("signal")
	b.run(s, b.container("a", `trap 'exit 7' TERM; echo ready; while :; do sleep 0.01; done`))
	b.awaitLog("a", "ready") // a first process without a handler does not even notice SIGTERM
	if err := b.Signal(b.ctx, s, "a-0", syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if st := b.wait(s, "a-0"); st.ExitCode != 7 {
		t.Errorf("after SIGTERM: %+v", st)
	}
	b.run(s, b.container("k", `sleep 100`))
	if err := b.Signal(b.ctx, s, "k-0", syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if st := b.wait(s, "k-0"); st.ExitCode != 137 || st.Signal != 9 || st.OOMKilled {
		t.Errorf("after SIGKILL: %+v", st)
	}
	if err := b.Signal(b.ctx, s, "k-0", syscall.SIGKILL); !errors.Is(err, ErrNotRunning) {
		t.Errorf("signal to an exited container: %v", err)
	}
	if err := b.Signal(b.ctx, s, "none", syscall.SIGKILL); !errors.Is(err, ErrNotFound) {
		t.Errorf("signal to nobody: %v", err)
	}
}

func TestStartError(t *testing.T) {
	b := newBench(t)
	s := b.sandbox("starterror")
	c := b.container("a", "")
	c.Args = []string{"/no/such/command"}
	st, err := b.Run(b.ctx, s, c)
	var start *StartError
	if !errors.As(err, &start) || !strings.Contains(start.Message, "no such file") {
		t.Errorf("error %v", err)
	}
	if st.State != Exited || st.ExitCode != 128 || st.Reason != ReasonStartError {
		t.Errorf("status %+v", st)
	}
	if st, err := b.Run(b.ctx, s, c); err != nil || st.ExitCode != 128 {
		t.Errorf("run again: %+v %v", st, err)
	}
}
