//go:build system

package stream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/transport/spdy"
	utilexec "k8s.io/client-go/util/exec"

	"github.com/orlog-io/orlog/node/runc"
	"github.com/orlog-io/orlog/node/runc/runctest"
)

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
		// The test's client, client-go, does not end the heartbeat of a WebSocket that it has given up.
		heartbeat := goleak.IgnoreTopFunction("k8s.io/client-go/tools/remotecommand.(*heartbeat).start")
		if err := goleak.Find(heartbeat); err != nil && code == 0 {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
		return code
	}())
}

// node is a pod called web in the namespace default, with the kubelet's API in front of it.
type node struct {
	*testing.T
	ctx     context.Context
	runtime *runc.Runtime
	sandbox string
	dir     string
	server  *httptest.Server
}

func newNode(t *testing.T) *node {
	t.Helper()
	dir, err := os.MkdirTemp("", "orlog-stream-test-")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	n := &node{T: t, ctx: ctx, dir: dir, sandbox: fmt.Sprintf("stream%d", os.Getpid())}
	n.runtime, err = runc.New(runc.Options{Dir: filepath.Join(dir, "state"), RuncPath: built.runc, ShimPath: built.shim})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		defer cancel()
		if n.server != nil {
			n.server.Close()
		}
		if err := n.runtime.CloseSandbox(ctx, n.sandbox); err != nil {
			t.Error(err)
		}
		n.runtime.Close()
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	runctest.Busybox(t, filepath.Join(dir, "layer"))
	if err := n.runtime.OpenSandbox(ctx, runc.Sandbox{ID: n.sandbox}); err != nil {
		t.Fatal(err)
	}
	n.server = httptest.NewServer(New(Options{
		Runtime: n.runtime,
		Lookup: func(namespace, pod, container string, previous bool) (string, string, string, error) {
			if namespace != "default" || pod != "web" {
				return "", "", "", fmt.Errorf("pod %q: %w", pod, ErrNotFound)
			}
			if container == "slow" {
				return "", "", "", fmt.Errorf("container %q in pod %q is waiting to start: ContainerCreating", container, pod)
			}
			return n.sandbox, container, n.logPath(container), nil
		},
		PodNetNS: func(string, string) (string, error) { return "", nil },
	}))
	return n
}

func (n *node) logPath(container string) string {
	return filepath.Join(n.dir, "logs", container, "0.log")
}

func (n *node) run(name, script string, edit ...func(*runc.Container)) {
	n.Helper()
	c := runc.Container{ID: name, Name: name, Layers: []string{filepath.Join(n.dir, "layer")},
		Args: []string{"sh", "-c", script}, LogPath: n.logPath(name)}
	for _, e := range edit {
		e(&c)
	}
	if _, err := n.runtime.Run(n.ctx, n.sandbox, c); err != nil {
		n.Fatal(err)
	}
}

// executors are the ways in which clients, or the API server for them, come in.
func (n *node) executors(path string, query url.Values) map[string]remotecommand.Executor {
	n.Helper()
	u, err := url.Parse(n.server.URL + path + "?" + query.Encode())
	if err != nil {
		n.Fatal(err)
	}
	config := &rest.Config{Host: n.server.URL}
	bySPDY, err := remotecommand.NewSPDYExecutor(config, http.MethodPost, u)
	if err != nil {
		n.Fatal(err)
	}
	byWebSocket, err := remotecommand.NewWebSocketExecutorForProtocols(config, http.MethodGet, u.String(), "v4.channel.k8s.io")
	if err != nil {
		n.Fatal(err)
	}
	return map[string]remotecommand.Executor{"SPDY": bySPDY, "WebSocket": byWebSocket}
}

func TestExecStreams(t *testing.T) {
	n := newNode(t)
	n.run("a", "sleep 1000")
	script := "read line; echo got $line; echo err >&2; exit 42"
	for name, ex := range n.executors("/exec/default/web/a", url.Values{
		"command": {"sh", "-c", script}, "input": {"1"}, "output": {"1"}, "error": {"1"},
	}) {
		t.Run(name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			err := ex.StreamWithContext(n.ctx, remotecommand.StreamOptions{Stdin: strings.NewReader("word\n"), Stdout: &stdout, Stderr: &stderr})
			exit, ok := errors.AsType[utilexec.CodeExitError](err)
			if !ok || exit.Code != 42 {
				t.Errorf("error %v", err)
			}
			if stdout.String() != "got word\n" || stderr.String() != "err\n" {
				t.Errorf("stdout %q, stderr %q", stdout.String(), stderr.String())
			}
		})
	}
}

// Whole files go through unharmed, as kubectl cp needs it.
func TestExecMuchData(t *testing.T) {
	n := newNode(t)
	n.run("a", "sleep 1000")
	data := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	for name, ex := range n.executors("/exec/default/web/a", url.Values{
		"command": {"head", "-c", fmt.Sprint(len(data))}, "input": {"1"}, "output": {"1"}, "error": {"1"},
	}) {
		t.Run(name, func(t *testing.T) {
			var stdout bytes.Buffer
			err := ex.StreamWithContext(n.ctx, remotecommand.StreamOptions{Stdin: bytes.NewReader(data), Stdout: &stdout, Stderr: io.Discard})
			if err != nil || !bytes.Equal(stdout.Bytes(), data) {
				t.Errorf("%d of %d bytes, error %v", stdout.Len(), len(data), err)
			}
		})
	}
}

type sizes chan remotecommand.TerminalSize

func (s sizes) Next() *remotecommand.TerminalSize {
	size, ok := <-s
	if !ok {
		return nil
	}
	return &size
}

func TestExecTerminal(t *testing.T) {
	n := newNode(t)
	n.run("a", "sleep 1000")
	for name, ex := range n.executors("/exec/default/web/a", url.Values{
		"command": {"sh", "-c", "read line; stty size; exit 3"}, "input": {"1"}, "output": {"1"}, "tty": {"1"},
	}) {
		t.Run(name, func(t *testing.T) {
			in, typed := io.Pipe()
			defer typed.Close()
			resize := make(sizes, 1)
			resize <- remotecommand.TerminalSize{Width: 99, Height: 22}
			out, said := io.Pipe()
			all := make(chan string, 1)
			go func() {
				var b strings.Builder
				io.Copy(&b, out)
				all <- b.String()
			}()
			go func() {
				// The size must have arrived before the shell looks: the container's terminal tells.
				time.AfterFunc(300*time.Millisecond, func() { io.WriteString(typed, "\r") })
			}()
			err := ex.StreamWithContext(n.ctx, remotecommand.StreamOptions{Stdin: in, Stdout: said, Tty: true, TerminalSizeQueue: resize})
			said.Close()
			close(resize)
			exit, ok := errors.AsType[utilexec.CodeExitError](err)
			if got := <-all; !ok || exit.Code != 3 || !strings.Contains(got, "22 99") {
				t.Errorf("error %v, said %q", err, got)
			}
		})
	}
}

func TestExecRefused(t *testing.T) {
	n := newNode(t)
	for path, want := range map[string]string{
		"/exec/default/web/slow?command=ls&output=1":  "400 container \"slow\" in pod \"web\" is waiting to start: ContainerCreating",
		"/exec/default/other/a?command=ls&output=1":   "404 pod \"other\": not found",
		"/exec/default/web/a?output=1":                "400 you must specify at least one command for the container",
		"/exec/default/web/a?command=ls":              "400 you must specify at least 1 of stdin, stdout, stderr",
		"/containerLogs/default/web/slow":             "400 container \"slow\" in pod \"web\" is waiting to start: ContainerCreating",
		"/containerLogs/default/other/a":              "404 pod \"other\": not found",
		"/containerLogs/default/web/gone":             "400 log of container \"gone\" in pod \"web\" is not there: no such file or directory",
		"/containerLogs/default/web/a?tailLines=many": "422 tailLines: \"many\": want a number, not negative",
		"/healthz": "200 ok",
		"/pods":    `200 {"kind":"PodList","apiVersion":"v1","metadata":{},"items":[]}`,
	} {
		resp, err := http.Get(n.server.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if got := fmt.Sprintf("%d %s", resp.StatusCode, strings.TrimSpace(string(body))); err != nil || got != want {
			t.Errorf("%s: %q %v, want %q", path, got, err, want)
		}
	}
}

// A client that hangs up takes its process with it.
func TestHangup(t *testing.T) {
	n := newNode(t)
	n.run("a", "sleep 1000")
	for name, ex := range n.executors("/exec/default/web/a", url.Values{"command": {"sh", "-c", "echo $$; exec sleep 1234"}, "output": {"1"}}) {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(n.ctx)
			out, said := io.Pipe()
			done := make(chan error, 1)
			go func() { done <- ex.StreamWithContext(ctx, remotecommand.StreamOptions{Stdout: said}) }()
			var pid string
			if _, err := fmt.Fscan(out, &pid); err != nil {
				t.Fatal(err)
			}
			cancel()
			<-done
			for alive := true; alive && n.ctx.Err() == nil; {
				code, err := n.runtime.Exec(n.ctx, n.sandbox, "a", runc.ExecOptions{Args: []string{"kill", "-0", pid}})
				if err != nil {
					t.Fatal(err)
				}
				alive = code == 0
			}
			if n.ctx.Err() != nil {
				t.Errorf("process %s goes on", pid)
			}
		})
	}
}

func TestAttachStreams(t *testing.T) {
	n := newNode(t)
	for name, id := range map[string]string{"SPDY": "b", "WebSocket": "c"} {
		n.run(id, "while read line; do echo got $line; test $line = end && exit 0; done", func(c *runc.Container) { c.Stdin = true })
		ex := n.executors("/attach/default/web/"+id, url.Values{"input": {"1"}, "output": {"1"}})[name]
		t.Run(name, func(t *testing.T) {
			var stdout bytes.Buffer
			err := ex.StreamWithContext(n.ctx, remotecommand.StreamOptions{Stdin: strings.NewReader("one\nend\n"), Stdout: &stdout})
			if err != nil || stdout.String() != "got one\ngot end\n" {
				t.Errorf("stdout %q, error %v", stdout.String(), err)
			}
		})
	}
}

func TestLogsFollow(t *testing.T) {
	n := newNode(t)
	n.run("a", "trap 'echo last; exit 0' TERM; echo first; while :; do sleep 0.01; done")
	resp, err := http.Get(n.server.URL + "/containerLogs/default/web/a?follow=true")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	buf := make([]byte, 6)
	if _, err := io.ReadFull(resp.Body, buf); err != nil || string(buf) != "first\n" {
		t.Fatalf("%q %v", buf, err)
	}
	if err := n.runtime.Signal(n.ctx, n.sandbox, "a", syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(resp.Body) // ends because the container has
	if err != nil || string(rest) != "last\n" {
		t.Errorf("%q %v", rest, err)
	}
}

func TestPortForward(t *testing.T) {
	n := newNode(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				data, _ := io.ReadAll(conn) // to the client's half-close
				fmt.Fprintf(conn, "echo %s", data)
			}()
		}
	}()
	u, err := url.Parse(n.server.URL + "/portForward/default/web")
	if err != nil {
		t.Fatal(err)
	}
	transport, upgrader, err := spdy.RoundTripperFor(&rest.Config{Host: n.server.URL})
	if err != nil {
		t.Fatal(err)
	}
	dialer := spdy.NewDialer(upgrader, &http.Client{Transport: transport}, http.MethodPost, u)
	stop, ready := make(chan struct{}), make(chan struct{})
	fw, err := portforward.NewOnAddresses(dialer, []string{"127.0.0.1"}, []string{fmt.Sprintf("0:%d", l.Addr().(*net.TCPAddr).Port)}, stop, ready, io.Discard, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- fw.ForwardPorts() }()
	select {
	case <-ready:
	case err := <-done:
		t.Fatal(err)
	}
	ports, err := fw.GetPorts()
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", ports[0].Local))
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(conn, "hello")
		conn.(*net.TCPConn).CloseWrite()
		got, err := io.ReadAll(conn)
		conn.Close()
		if err != nil || string(got) != "echo hello" {
			t.Errorf("%q %v", got, err)
		}
	}
	close(stop)
	if err := <-done; err != nil {
		t.Error(err)
	}
}
