package jetstream_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/events/jetstream"
	"github.com/orlog-io/orlog/events/logtest"
)

// startCluster gives the URLs of three servers that replicate.
func startCluster(t *testing.T) string {
	t.Helper()
	var ports []int
	var routes []*url.URL
	var taken []net.Listener // so that the three ports differ
	for range 3 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		taken = append(taken, l)
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
		routes = append(routes, &url.URL{Scheme: "nats", Host: l.Addr().String()})
	}
	for _, l := range taken {
		l.Close()
	}
	var servers []*server.Server
	var urls []string
	for i, port := range ports {
		s, err := server.NewServer(&server.Options{ServerName: fmt.Sprint("n", i), Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: t.TempDir(),
			SyncAlways: true, MaxPayload: 8 << 20, NoLog: true, NoSigs: true, Routes: routes,
			Cluster: server.ClusterOpts{Name: "c", Host: "127.0.0.1", Port: port}})
		if err != nil {
			t.Fatal(err)
		}
		s.Start()
		t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
		servers, urls = append(servers, s), append(urls, s.ClientURL())
	}
	deadline := time.Now().Add(time.Minute)
	for _, s := range servers {
		for !s.JetStreamIsCurrent() {
			if time.Now().After(deadline) {
				t.Fatal("the cluster does not come up")
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	return strings.Join(urls, ",")
}

func clusterOptions(urls string) jetstream.Options {
	return jetstream.Options{URL: urls, Replicas: 3, Patience: time.Minute}
}

// TestCluster: the suite, and guards under concurrency, on a stream with three replicas.
func TestCluster(t *testing.T) {
	urls := startCluster(t)
	t.Run("suite", func(t *testing.T) {
		logtest.Run(t, func(t *testing.T) events.Log {
			removeStream(t, urls)
			return open(t, connect(t, clusterOptions(urls)))
		})
	})
	t.Run("guards of different spelling", func(t *testing.T) {
		removeStream(t, urls)
		mixedGuards(t, []events.Log{open(t, connect(t, clusterOptions(urls))), open(t, connect(t, clusterOptions(urls)))})
	})
}

func removeStream(t *testing.T, urls string) {
	t.Helper()
	nc, err := nats.Connect(urls)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := natsjs.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for {
		err := js.DeleteStream(ctx, jetstream.StreamName)
		if err == nil || errors.Is(err, natsjs.ErrStreamNotFound) {
			return
		}
		if ctx.Err() != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond) // no leader yet
	}
}

// mixedGuards: writers on several connections race for one object, some guarding a class, some the whole
// object, on subjects with and without node. One wins.
func mixedGuards(t *testing.T, logs []events.Log) {
	for round := range 40 {
		name := fmt.Sprint("p", round)
		var mu sync.Mutex
		var won []int
		var wg sync.WaitGroup
		for w := range 8 {
			wg.Go(func() {
				e := pod(events.Desired, name, w)
				if w%4 >= 2 {
					e.Subject.Node = "n"
				}
				guard := events.ExpectClass(e.Subject, 0)
				if w%2 == 1 {
					guard = events.ExpectObject(e.Subject, 0)
				}
				_, err := logs[w%len(logs)].Append(t.Context(), events.Entry{Event: e, Expect: guard})
				if err != nil && !errors.Is(err, events.ErrConflict) {
					t.Error(err)
				}
				if err == nil {
					mu.Lock()
					won = append(won, w)
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		if len(won) != 1 {
			t.Fatalf("round %d: writers %v won, want one", round, won)
		}
	}
}

// TestMixedGuards is the same on one server.
func TestMixedGuards(t *testing.T) {
	url := start(t).URL()
	mixedGuards(t, []events.Log{open(t, connect(t, jetstream.Options{URL: url})), open(t, connect(t, jetstream.Options{URL: url}))})
}
