package gateway

import (
	"cmp"
	"context"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/events/jetstream"
	"github.com/orlog-io/orlog/events/memlog"
	"github.com/orlog-io/orlog/projections"
	"github.com/orlog-io/orlog/services/access"
)

// cluster is a gateway under test with its logs, which outlive its restarts.
type cluster struct {
	dir           string
	listen        string // "": a free port of 127.0.0.1
	advertise     string
	nats          string // of the embedded server
	log, volatile events.Log
	tunnel        events.Tunnel
	metrics       prometheus.Gatherer
	tracer        trace.TracerProvider

	*Gateway
	store *projections.Store
	stop  func()
}

// newCluster is a cluster on logs in memory, without a tunnel.
func newCluster(t *testing.T) *cluster {
	c := &cluster{dir: t.TempDir(), log: memlog.New(), volatile: memlog.New()}
	c.start(t)
	t.Cleanup(func() { c.stop() })
	return c
}

// newDurableCluster is a cluster on an embedded JetStream server, which carries the tunnel too.
func newDurableCluster(t *testing.T) *cluster { return newDurableClusterAt(t, "", "") }

func newDurableClusterAt(t *testing.T, listen, advertise string) *cluster {
	c := &cluster{dir: t.TempDir(), listen: listen, advertise: advertise}
	server, err := jetstream.StartServer(jetstream.ServerOptions{Dir: filepath.Join(c.dir, "nats"), Port: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Shutdown)
	c.nats = server.URL()
	conn, err := jetstream.Connect(t.Context(), jetstream.Options{URL: server.URL(), Name: "gateway-test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	if c.log, err = conn.Log(t.Context()); err != nil {
		t.Fatal(err)
	}
	if c.volatile, err = conn.Volatile(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.tunnel = conn.Tunnel()
	c.start(t)
	t.Cleanup(func() { c.stop() })
	return c
}

// start is launch, until ready.
func (c *cluster) start(t *testing.T) {
	t.Helper()
	c.launch(t)
	select {
	case <-c.Ready():
	case <-time.After(2 * time.Minute):
		t.Fatal("not ready: ", c.get(t, "/readyz?verbose"))
	}
}

// launch opens projections (the history one is on disk and survives) and runs a gateway until stop.
func (c *cluster) launch(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background()) // t's own ends before its cleanups run
	done := make(chan struct{}, 4)
	open := func(name string, o projections.Options, log events.Log) *projections.Store {
		s, err := projections.Open(filepath.Join(c.dir, name), o)
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			if err := s.Follow(ctx, log); err != nil && ctx.Err() == nil {
				t.Error("follow:", err)
			}
			done <- struct{}{}
		}()
		return s
	}
	// The stores outlive the gateway, which reads them while it shuts down.
	running, end := context.WithCancel(ctx)
	c.store = open("store", projections.Options{History: true}, c.log)
	volatile := open("volatile", projections.Options{InMemory: true}, c.volatile)
	level := slog.LevelWarn
	if os.Getenv("GATEWAY_LOG") != "" {
		level = slog.LevelDebug
	}
	ledger := access.New(c.store, slog.New(slog.DiscardHandler))
	go func() {
		if err := ledger.Run(ctx); err != nil && ctx.Err() == nil {
			t.Error("ledger:", err)
		}
		done <- struct{}{}
	}()
	g, err := New(ctx, Options{Ledger: ledger, DataDir: c.dir, Listen: cmp.Or(c.listen, "127.0.0.1:0"), AdvertiseAddress: c.advertise, Log: c.log, Volatile: c.volatile, Store: c.store,
		VolatileStore: volatile, Tunnel: c.tunnel, Metrics: c.metrics, Tracer: c.tracer, Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))})
	if err != nil {
		t.Fatal(err)
	}
	c.Gateway = g
	go func() {
		if err := g.Run(running); err != nil {
			t.Error("run:", err)
		}
		done <- struct{}{}
	}()
	c.stop = func() {
		end()
		<-done
		cancel()
		<-done
		<-done
		<-done
		if err := c.store.Close(); err != nil {
			t.Error(err)
		}
		if err := volatile.Close(); err != nil {
			t.Error(err)
		}
		c.stop = func() {}
	}
}

// config is a client configuration for a user with a certificate.
func (c *cluster) config(t *testing.T, user string, groups ...string) *rest.Config {
	t.Helper()
	path := filepath.Join(c.dir, "kubeconfig-"+fileName(user))
	if err := c.WriteKubeconfig(path, user, groups...); err != nil {
		t.Fatal(err)
	}
	config, err := clientcmd.BuildConfigFromFlags("", path)
	if err != nil {
		t.Fatal(err)
	}
	config.QPS = -1
	return config
}

func (c *cluster) admin(t *testing.T) *rest.Config { return c.config(t, AdminUser, MastersGroup) }

func clientOf(t *testing.T, config *rest.Config) *kubernetes.Clientset {
	t.Helper()
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// get reads a path as admin; it returns status and body.
func (c *cluster) get(t *testing.T, path string) string {
	t.Helper()
	code, body := getAs(t, c.admin(t), path)
	if code != http.StatusOK {
		t.Logf("GET %s: %d", path, code)
	}
	return body
}

func getAs(t *testing.T, config *rest.Config, path string) (int, string) {
	t.Helper()
	return do(t, config, http.MethodGet, path, "")
}

func do(t *testing.T, config *rest.Config, method, path, body string, headers ...string) (int, string) {
	t.Helper()
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, config.Host+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func (c *cluster) last(t *testing.T) events.Sequence {
	t.Helper()
	last, err := c.log.Last(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return last
}

// eventually polls what another goroutine of the gateway brings about.
func eventually(t *testing.T, what string, f func() error) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %v", what, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
