//go:build system

package runc

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestExec(t *testing.T) {
	b := newBench(t)
	s := b.sandbox("exec")
	b.run(s, b.container("a", "sleep 1000", func(c *Container) { c.Env = []string{"A=from-spec"} }))
	for _, tc := range []struct {
		name, script, stdin, stdout, stderr string
		code                                int
	}{
		{name: "both outputs", script: "echo $A-$B; echo err >&2; exit 5", stdout: "from-spec-x\n", stderr: "err\n", code: 5},
		{name: "input to its end", script: "cat; echo done", stdin: "some\ninput", stdout: "some\ninputdone\n"},
		{name: "killed", script: "kill -9 $$", code: 137},
		{name: "much output", script: "head -c 3000000 /dev/zero | tr '\\0' x", stdout: strings.Repeat("x", 3000000)},
		{name: "left behind", script: "sleep 1000 & echo gone", stdout: "gone\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			o := ExecOptions{Args: []string{"sh", "-c", tc.script}, Env: []string{"B=x"}, Stdout: &stdout, Stderr: &stderr}
			if tc.stdin != "" {
				o.Stdin = strings.NewReader(tc.stdin)
			}
			code, err := b.Exec(b.ctx, s, "a-0", o)
			if err != nil || code != tc.code {
				t.Errorf("code %d, error %v, want %d", code, err, tc.code)
			}
			if stdout.String() != tc.stdout || stderr.String() != tc.stderr {
				t.Errorf("stdout %.80q, stderr %.80q", stdout.String(), stderr.String())
			}
		})
	}
}

func TestExecWithoutCommand(t *testing.T) {
	b := newBench(t)
	s := b.sandbox("execno")
	b.run(s, b.container("a", "sleep 1000"))
	for command, want := range map[string]int{"/none": 127, "none": 127, "/etc": 126} {
		var stderr bytes.Buffer
		code, err := b.Exec(b.ctx, s, "a-0", ExecOptions{Args: []string{command}, Stderr: &stderr})
		if err != nil || code != want || stderr.Len() == 0 {
			t.Errorf("%s: code %d, error %v, stderr %q, want %d", command, code, err, stderr.String(), want)
		}
	}
	if _, err := b.Exec(b.ctx, s, "none", ExecOptions{Args: []string{"true"}}); !errors.Is(err, ErrNotFound) {
		t.Errorf("exec in nobody: %v", err)
	}
	if err := b.Signal(b.ctx, s, "a-0", syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	b.wait(s, "a-0")
	if _, err := b.Exec(b.ctx, s, "a-0", ExecOptions{Args: []string{"true"}}); !errors.Is(err, ErrNotRunning) {
		t.Errorf("exec in an exited container: %v", err)
	}
}

func TestExecSyncTimeout(t *testing.T) {
	b := newBench(t)
	s := b.sandbox("execsync")
	b.run(s, b.container("a", "sleep 1000"))
	out, code, err := b.ExecSync(b.ctx, s, "a-0", []string{"sh", "-c", "echo one; echo two >&2; exit 2"}, 10*time.Second, 5)
	if err != nil || code != 2 || len(out) != 5 {
		t.Errorf("%q %d %v", out, code, err)
	}
	out, _, err = b.ExecSync(b.ctx, s, "a-0", []string{"sh", "-c", "echo early; exec sleep 99"}, 300*time.Millisecond, 100)
	if !errors.Is(err, context.DeadlineExceeded) || string(out) != "early\n" {
		t.Errorf("%q %v", out, err)
	}
	for b.ctx.Err() == nil {
		var ps bytes.Buffer
		if _, err := b.Exec(b.ctx, s, "a-0", ExecOptions{Args: []string{"ps"}, Stdout: &ps}); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(ps.String(), "sleep 99") {
			return
		}
	}
	t.Error("the process was not killed")
}

func TestExecTerminal(t *testing.T) {
	b := newBench(t)
	s := b.sandbox("exectty")
	b.run(s, b.container("a", "sleep 1000"))
	in, typed := io.Pipe()
	defer typed.Close()
	out, said := io.Pipe()
	sizes := make(chan Size, 1)
	defer close(sizes)
	sizes <- Size{Width: 123, Height: 45}
	result := make(chan error, 1)
	var code int
	go func() {
		var err error
		code, err = b.Exec(b.ctx, s, "a-0", ExecOptions{Args: []string{"sh"}, TTY: true, Stdin: in, Stdout: said, Resize: sizes})
		said.Close()
		result <- err
	}()
	lines := make(chan string, 100)
	go func() {
		var buf [4096]byte
		for {
			n, err := out.Read(buf[:])
			if err != nil {
				close(lines)
				return
			}
			lines <- string(buf[:n])
		}
	}()
	var all strings.Builder
	expect := func(text string) {
		t.Helper()
		for !strings.Contains(all.String(), text) {
			select {
			case l, ok := <-lines:
				if !ok {
					t.Fatalf("terminal closed before %q: %q", text, all.String())
				}
				all.WriteString(l)
			case <-b.ctx.Done():
				t.Fatalf("terminal never said %q: %q", text, all.String())
			}
		}
	}
	expect("# ")
	io.WriteString(typed, "stty size; echo term=$TERM\r")
	expect("45 123")
	expect("term=xterm")
	io.WriteString(typed, "exit 9\r")
	if err := <-result; err != nil || code != 9 {
		t.Errorf("code %d, error %v, said %q", code, err, all.String())
	}
}

func TestAttach(t *testing.T) {
	b := newBench(t)
	s := b.sandbox("attach")
	b.run(s, b.container("a", "cat; echo over >&2", func(c *Container) { c.Stdin, c.StdinOnce = true, true }))
	var stdout, stderr bytes.Buffer
	err := b.Attach(b.ctx, s, "a-0", AttachOptions{Stdin: strings.NewReader("hello"), Stdout: &stdout, Stderr: &stderr})
	if err != nil || stdout.String() != "hello" || stderr.String() != "over\n" {
		t.Errorf("stdout %q, stderr %q, error %v", stdout.String(), stderr.String(), err)
	}
	if st := b.wait(s, "a-0"); st.ExitCode != 0 || st.Reason != ReasonCompleted {
		t.Errorf("status %+v", st)
	}
	if err := b.Attach(b.ctx, s, "a-0", AttachOptions{Stdout: &stdout}); !errors.Is(err, ErrNotRunning) {
		t.Errorf("attach to an exited container: %v", err)
	}
}

func TestAttachTerminal(t *testing.T) {
	b := newBench(t)
	s := b.sandbox("attachtty")
	b.run(s, b.container("a", "read line; stty size; echo got $line; exit 4", func(c *Container) { c.TTY, c.Stdin = true, true }))
	in, typed := io.Pipe()
	defer typed.Close()
	var stdout bytes.Buffer
	sizes := make(chan Size, 1)
	defer close(sizes)
	sizes <- Size{Width: 77, Height: 33}
	result := make(chan error, 1)
	go func() { result <- b.Attach(b.ctx, s, "a-0", AttachOptions{Stdin: in, Stdout: &stdout, Resize: sizes}) }()
	io.WriteString(typed, "word\r")
	if err := <-result; err != nil {
		t.Fatal(err)
	}
	if st := b.wait(s, "a-0"); st.ExitCode != 4 {
		t.Errorf("status %+v", st)
	}
	if got := stdout.String(); !strings.Contains(got, "got word") {
		t.Errorf("said %q", got)
	}
	if log := strings.Join(b.log("a"), "\n"); !strings.Contains(log, "stdout F got word") {
		t.Errorf("log %q", log)
	}
}
