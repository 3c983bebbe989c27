package shim

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// logged writes the pieces as one stream's reads and returns the log without its times.
func logged(t *testing.T, pieces ...string) []string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sub", "0.log")
	l, err := openLog(path, 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	scratch.Lock()
	s := lines{stream: "stdout"}
	for _, p := range pieces {
		s.write(l, []byte("T"), []byte(p))
		l.flush()
	}
	s.end(l, []byte("T"))
	l.flush()
	l.close()
	scratch.Unlock()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for line := range strings.Lines(string(data)) {
		out = append(out, strings.TrimPrefix(strings.TrimSuffix(line, "\n"), "T stdout "))
	}
	return out
}

func TestLines(t *testing.T) {
	x := func(n int) string { return strings.Repeat("x", n) }
	for _, tc := range []struct {
		name   string
		pieces []string
		want   []string
	}{
		{"lines", []string{"a\nb\n\n"}, []string{"F a", "F b", "F "}},
		{"across reads", []string{"a", "b", "c\nd\n"}, []string{"F abc", "F d"}},
		{"unfinished", []string{"a\nb"}, []string{"F a", "P b"}},
		{"exactly full", []string{x(MaxLogLine) + "\n"}, []string{"F " + x(MaxLogLine)}},
		{"one too long", []string{x(MaxLogLine+1) + "\n"}, []string{"P " + x(MaxLogLine), "F x"}},
		{"full, then its end", []string{x(MaxLogLine), "\n"}, []string{"P " + x(MaxLogLine), "F "}},
		{"much too long, in two reads", []string{x(100), x(2 * MaxLogLine), "\nz\n"}, []string{"P " + x(MaxLogLine), "P " + x(MaxLogLine), "F " + x(100), "F z"}},
		{"nothing", nil, nil},
	} {
		if got := logged(t, tc.pieces...); !slices.Equal(got, tc.want) {
			t.Errorf("%s: %d lines %.60q", tc.name, len(got), got)
		}
	}
}

func TestLogRotates(t *testing.T) {
	path := filepath.Join(t.TempDir(), "0.log")
	l, err := openLog(path, 100, 3)
	if err != nil {
		t.Fatal(err)
	}
	scratch.Lock()
	for i := range 50 {
		l.line([]byte("T"), "stderr", 'F', []byte(fmt.Sprintf("%020d", i)), nil)
		l.flush()
	}
	l.close()
	scratch.Unlock()
	old := RotatedLogs(path)
	if len(old) != 2 {
		t.Fatalf("rotated files %v", old)
	}
	all := ""
	for _, f := range append(old, path) {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if len(data) > 150 {
			t.Errorf("%s has %d bytes", f, len(data))
		}
		all += string(data)
	}
	if strings.Count(all, "\n") < 7 || !strings.HasSuffix(all, "49\n") {
		t.Errorf("logs %q", all)
	}
}

// A log that cannot be written loses lines and says how many bytes; it comes back when it can be.
func TestLogThatCannotBeWritten(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "sub", "0.log")
	l, err := openLog(path, 1, 2) // rotates after every line
	if err != nil {
		t.Fatal(err)
	}
	write := func() {
		scratch.Lock()
		defer scratch.Unlock()
		l.line([]byte("T"), "stdout", 'F', []byte("x"), nil)
		l.flush()
	}
	if err := os.RemoveAll(filepath.Join(dir, "sub")); err != nil {
		t.Fatal(err)
	}
	write() // into the removed file, whose rotation fails
	l.close()
	write()
	if l.dropped != int64(len("T stdout F x\n")) {
		t.Errorf("dropped %d", l.dropped)
	}
	if err := os.Mkdir(filepath.Join(dir, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	write()
	if found := RotatedLogs(path); len(found) != 1 {
		t.Errorf("after recovery: %v", found)
	}
}

func TestConnCarriesMessagesAndFiles(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("a-very-long-folder-name/", 8)) // longer than sun_path
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := Dial(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("dial where nobody is: %v", err)
	}
	listener, err := Listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	client, err := Dial(dir)
	if err != nil {
		t.Fatal(err)
	}
	fd, _, err := unix.Accept4(int(listener.Fd()), unix.SOCK_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	server, err := newConn(fd, "client")
	if err != nil {
		t.Fatal(err)
	}
	var many Reply
	for i := range 500 {
		many.Containers = append(many.Containers, Status{ID: fmt.Sprint(i), Message: strings.Repeat("m", 100)})
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Send(many, int(w.Fd())); err != nil {
		t.Fatal(err)
	}
	w.Close()
	var got Reply
	fds, err := client.Recv(&got)
	if err != nil || len(got.Containers) != 500 || len(fds) != 1 {
		t.Fatalf("%d containers, files %v, error %v", len(got.Containers), fds, err)
	}
	unix.Write(fds[0], []byte("through"))
	CloseFDs(fds)
	if text, err := io.ReadAll(r); err != nil || string(text) != "through" {
		t.Errorf("%q %v", text, err)
	}
	server.Close()
	if _, err := client.Recv(&got); !errors.Is(err, io.EOF) {
		t.Errorf("after hang-up: %v", err)
	}
	listener.Close()
	if _, err := Dial(dir); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("dial a dead socket: %v", err)
	}
	if again, err := Listen(dir); err != nil {
		t.Errorf("listen where a dead socket is: %v", err)
	} else {
		again.Close()
	}
	client.Close()
}

func TestStatusFile(t *testing.T) {
	dir := t.TempDir()
	if _, err := ReadStatus(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	for _, durable := range []bool{false, true} {
		want := Status{ID: "a", State: Exited, ExitCode: 3, Message: fmt.Sprint(durable)}
		if err := WriteStatus(dir, want, durable); err != nil {
			t.Fatal(err)
		}
		if got, err := ReadStatus(dir); err != nil || got != want {
			t.Errorf("%+v %v", got, err)
		}
	}
}

// A child that ends before it is adopted is not lost, and one that nobody wants is reaped all the same.
func TestReaper(t *testing.T) {
	r := newReaper()
	attr := &syscall.ProcAttr{Files: []uintptr{0, 1, 2}}
	pid, done, err := r.start("/usr/bin/busybox", []string{"false"}, attr)
	if err != nil {
		t.Fatal(err)
	}
	waitZombie(t, pid)
	r.reap()
	if code, _ := exitOf(<-done); code != 1 {
		t.Errorf("exit %d", code)
	}
	if err := r.kill(pid, unix.SIGKILL); !errors.Is(err, unix.ESRCH) {
		t.Errorf("kill a reaped child: %v", err)
	}

	r.begin()
	stranger, err := syscall.ForkExec("/usr/bin/busybox", []string{"sh", "-c", "kill -9 $$"}, attr)
	if err != nil {
		t.Fatal(err)
	}
	waitZombie(t, stranger)
	r.reap() // leaves it alone
	exit := r.adopt(stranger)
	r.end()
	if code, sig := exitOf(<-exit); code != 137 || sig != 9 {
		t.Errorf("exit %d, signal %d", code, sig)
	}
}

// waitZombie returns when a child has ended, without reaping it.
func waitZombie(t *testing.T, pid int) {
	t.Helper()
	if err := unix.Waitid(unix.P_PID, pid, &unix.Siginfo{}, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
		t.Fatal(err)
	}
}

func TestOOMKills(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	for text, want := range map[string]int{
		"oom_kill_disable 0\nunder_oom 0\noom_kill 2\n":               2,
		"low 0\nhigh 0\nmax 9\noom 1\noom_kill 1\noom_group_kill 1\n": 1,
		"oom_kill_disable 1\n":                                        0,
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := oomKills(path); got != want {
			t.Errorf("%q: %d", text, got)
		}
	}
	if oomKills("") != 0 || oomKills(path+"x") != 0 {
		t.Error("counted in no file")
	}
}

func TestStartTime(t *testing.T) {
	a, err := StartTime(os.Getpid())
	if err != nil || a == "" {
		t.Fatal(a, err)
	}
	if b, err := StartTime(os.Getpid()); err != nil || a != b {
		t.Errorf("%q then %q, %v", a, b, err)
	}
}
