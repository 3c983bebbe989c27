package jetstream_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/events/jetstream"
)

// tunnels gives the two ends' connections: the control plane's and the node's.
func tunnels(t *testing.T, url string) (control, node *jetstream.Conn) {
	t.Helper()
	return connect(t, jetstream.Options{URL: url, Name: "control"}), connect(t, jetstream.Options{URL: url, Name: "node"})
}

// pair gives both ends of one stream.
func pair(t *testing.T, control, node *jetstream.Conn) (a, b net.Conn) {
	t.Helper()
	ln, err := node.Tunnel().Listen("node-1.example")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if a, err = control.Tunnel().Dial(t.Context(), "node-1.example"); err != nil {
		t.Fatal(err)
	}
	if b, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

// freshPair is a pair on a server of its own.
func freshPair(t *testing.T) (a, b net.Conn) {
	t.Helper()
	control, node := tunnels(t, start(t).URL())
	return pair(t, control, node)
}

// transfer sends n bytes from a to b and compares their hashes.
func transfer(t *testing.T, a, b net.Conn, n int64) {
	t.Helper()
	sent, got := sha256.New(), sha256.New()
	done := make(chan error, 1)
	go func() {
		_, err := io.CopyBuffer(io.MultiWriter(a, sent), io.LimitReader(rand.NewChaCha8([32]byte{1}), n), make([]byte, 100_000))
		if err == nil {
			err = a.(interface{ CloseWrite() error }).CloseWrite()
		}
		done <- err
	}()
	m, err := io.Copy(got, b)
	if err != nil {
		t.Fatalf("after %d bytes: %v", m, err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if m != n || !bytes.Equal(sent.Sum(nil), got.Sum(nil)) {
		t.Fatalf("%d of %d bytes arrived, or others than were sent", m, n)
	}
}

func TestTunnelLarge(t *testing.T) {
	a, b := freshPair(t)
	start := time.Now()
	transfer(t, a, b, 128<<20)
	t.Logf("%.0f MB/s", 128/time.Since(start).Seconds())
	transfer(t, b, a, 1<<20) // the other half is still open
}

func TestTunnelSurvivesReconnects(t *testing.T) {
	p := startProxy(t, start(t).URL())
	control, node := tunnels(t, p.url())
	a, b := pair(t, control, node)
	cutting := &cuttingConn{Conn: b, every: 3 << 20, cut: p.cut}
	transfer(t, a, cutting, 24<<20)
	if cutting.cuts < 5 {
		t.Fatalf("only %d cuts", cutting.cuts)
	}
}

// cuttingConn cuts connections as bytes go by.
type cuttingConn struct {
	net.Conn
	every, seen, cuts int
	cut               func()
}

func (c *cuttingConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.seen += n
	if c.seen/c.every > c.cuts {
		c.cuts++
		c.cut()
	}
	return n, err
}

func TestTunnelSlowReader(t *testing.T) {
	a, b := freshPair(t)
	written := 0
	a.SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
	for buf := make([]byte, 64<<10); ; {
		n, err := a.Write(buf)
		written += n
		if err != nil {
			var ne net.Error
			if !errors.Is(err, os.ErrDeadlineExceeded) || !errors.As(err, &ne) || !ne.Timeout() {
				t.Fatalf("write to a full tunnel: %v", err)
			}
			break
		}
	}
	if written > 2<<20 {
		t.Fatalf("%d bytes were written while nobody read", written)
	}
	// Reading frees the writer.
	a.SetWriteDeadline(time.Time{})
	go func() {
		a.Write([]byte("end"))
		a.Close()
	}()
	all, err := io.ReadAll(b)
	if err != nil || len(all) != written+3 {
		t.Fatalf("read %d bytes of %d: %v", len(all), written+3, err)
	}
}

func TestTunnelDeadlines(t *testing.T) {
	a, b := freshPair(t)
	a.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	if _, err := a.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("read: %v", err)
	}
	a.SetReadDeadline(time.Time{})
	go b.Write([]byte("x"))
	if n, err := a.Read(make([]byte, 1)); n != 1 || err != nil {
		t.Fatalf("read after the deadline was lifted: %d %v", n, err)
	}
	// A deadline that is set while a read waits ends it.
	done := make(chan error, 1)
	go func() {
		_, err := a.Read(make([]byte, 1))
		done <- err
	}()
	a.SetReadDeadline(time.Now().Add(-time.Second))
	if err := <-done; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("waiting read: %v", err)
	}
}

func TestTunnelClose(t *testing.T) {
	a, b := freshPair(t)
	if _, err := a.Write([]byte("last words")); err != nil {
		t.Fatal(err)
	}
	waiting := make(chan error, 1)
	go func() {
		_, err := a.Read(make([]byte, 1))
		waiting <- err
	}()
	a.Close()
	if err := <-waiting; !errors.Is(err, net.ErrClosed) {
		t.Errorf("read on the closed end: %v", err)
	}
	if _, err := a.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("write on the closed end: %v", err)
	}
	all, err := io.ReadAll(b)
	if err != nil || string(all) != "last words" {
		t.Errorf("read on the other end: %q %v", all, err)
	}
	b.SetWriteDeadline(time.Now().Add(10 * time.Second))
	for err == nil {
		_, err = b.Write([]byte("into the void"))
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("writing to an end that is gone never fails")
	}
}

func TestTunnelPeerConnectionCloses(t *testing.T) {
	control, node := tunnels(t, start(t).URL())
	a, b := pair(t, control, node)
	node.Close()
	if _, err := b.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("read on a closed connection: %v", err)
	}
	a.Close()
}

func TestTunnelNobodyListens(t *testing.T) {
	control, node := tunnels(t, start(t).URL())
	if _, err := control.Tunnel().Dial(t.Context(), "nowhere"); !errors.Is(err, events.ErrUnavailable) {
		t.Errorf("dial: %v", err)
	}
	ln, err := node.Tunnel().Listen("here")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := node.Tunnel().Listen("here"); err == nil {
		t.Error("two listeners for one node")
	}
	ln.Close()
	if _, err := ln.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("accept after close: %v", err)
	}
	again, err := node.Tunnel().Listen("here")
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
}

func TestTunnelHTTP(t *testing.T) {
	control, node := tunnels(t, start(t).URL())
	ln, err := node.Tunnel().Listen("n")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		fmt.Fprintf(w, "%s %s: %s", r.Method, r.URL.Path, body)
	})}
	served := make(chan error, 1)
	go func() { served <- server.Serve(ln) }()
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return control.Tunnel().Dial(ctx, "n")
	}}}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 10 {
				body := strings.Repeat("x", i*j*10_000)
				resp, err := client.Post(fmt.Sprintf("http://n/%d/%d", i, j), "text/plain", strings.NewReader(body))
				if err != nil {
					t.Error(err)
					return
				}
				got, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if want := fmt.Sprintf("POST /%d/%d: %s", i, j, body); err != nil || string(got) != want {
					t.Errorf("got %d bytes, want %d: %v", len(got), len(want), err)
				}
			}
		})
	}
	wg.Wait()
	client.CloseIdleConnections()
	if err := server.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		t.Error(err)
	}
}
