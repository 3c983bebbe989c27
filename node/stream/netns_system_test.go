//go:build system

package stream

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// listenElsewhere pins a new network namespace at path and listens on its loopback, on a port that the host's
// loopback does not answer on.
func listenElsewhere(t *testing.T, path, address string) net.Listener {
	t.Helper()
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	type result struct {
		l   net.Listener
		err error
	}
	done := make(chan result, 1)
	var listen func()
	listen = func() {
		runtime.LockOSThread() // the thread ends with the goroutine, unless it is the first one
		if unix.Gettid() == unix.Getpid() {
			go listen()
			runtime.UnlockOSThread()
			return
		}
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			done <- result{err: err}
			return
		}
		if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
			done <- result{err: fmt.Errorf("%w: %s", err, out)}
			return
		}
		if err := unix.Mount(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()), path, "", unix.MS_BIND, ""); err != nil {
			done <- result{err: err}
			return
		}
		l, err := net.Listen("tcp", address)
		done <- result{l, err}
	}
	go listen()
	r := <-done
	t.Cleanup(func() { unix.Unmount(path, unix.MNT_DETACH) })
	if r.err != nil {
		t.Fatal(r.err)
	}
	t.Cleanup(func() { r.l.Close() })
	return r.l
}

func TestDialInPodNetwork(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	before, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	for _, address := range []string{"127.0.0.1:4711", "[::1]:4711"} {
		path := filepath.Join(t.TempDir(), "netns")
		l := listenElsewhere(t, path, address)
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				io.WriteString(conn, "from the pod")
				conn.Close()
			}
		}()
		for range 20 { // often enough to come by the process's first thread
			conn, err := dialIn(ctx, path, 4711)
			if err != nil {
				t.Fatalf("%s: %v", address, err)
			}
			got, err := io.ReadAll(conn)
			conn.Close()
			if err != nil || string(got) != "from the pod" {
				t.Errorf("%s: %q %v", address, got, err)
			}
		}
		if _, err := dialIn(ctx, path, 4712); err == nil || !strings.Contains(err.Error(), "connection refused") {
			t.Errorf("a closed port: %v", err)
		}
	}
	if _, err := dialIn(ctx, "/no/netns", 4711); err == nil {
		t.Error("dialled in no namespace")
	}
	if after, err := os.Readlink("/proc/self/ns/net"); err != nil || after != before {
		t.Errorf("the process is in %s, was in %s", after, before)
	}
}
