//go:build system

package systemtest

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/events/jetstream"
)

// BenchmarkDurableCreate creates objects of 1.4 KB, each expecting that there is none yet, acknowledged when on disk:
// by Orlog's log and by etcd with fsync, beside what one file takes with fdatasync, all in turn on the same disk.
func BenchmarkDurableCreate(b *testing.B) {
	log, etcd := benchLog(b), benchEtcd(b)
	payload := fmt.Appendf(nil, `{"metadata":{"uid":"u"},"spec":{"text":%q}}`, strings.Repeat("orlog ", 225))
	var unique atomic.Int64
	appendOne := func() error {
		name := fmt.Sprintf("p%09d", unique.Add(1))
		e := events.Event{Subject: events.Subject{Class: events.Desired, Key: events.Key{Resource: "pods", Namespace: "bench", Name: name}}, Type: events.TypeOf("Pod", events.Created),
			Source: "bench", Actor: "bench", UID: "u", Time: time.Now(), Object: payload}
		_, err := log.Append(context.Background(), events.Entry{Event: e, Expect: events.ExpectClass(e.Subject, 0)})
		return err
	}
	putOne := func() error {
		key := fmt.Sprintf("/registry/pods/bench/p%09d", unique.Add(1))
		r, err := etcd.Txn(context.Background()).If(clientv3.Compare(clientv3.ModRevision(key), "=", 0)).Then(clientv3.OpPut(key, string(payload))).Commit()
		if err == nil && !r.Succeeded {
			err = fmt.Errorf("etcd holds %s already", key)
		}
		return err
	}
	for _, clients := range []int{1, 16, 64} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) {
			var raw, ours, theirs []float64
			for range 3 {
				raw = append(raw, rawSyncs(b, len(payload), time.Second))
				ours = append(ours, rateOf(b, clients, appendOne))
				theirs = append(theirs, rateOf(b, clients, putOne))
			}
			b.ReportMetric(median(ours), "appends/s")
			b.ReportMetric(median(theirs), "appends/s-etcd")
			b.ReportMetric(median(raw), "syncs/s")
			b.ReportMetric(median(ours)/median(raw), "x-raw")
			b.ReportMetric(median(ours)/median(theirs), "x-etcd")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// rateOf is how often a second so many clients get something done, measured for two seconds.
func rateOf(b *testing.B, clients int, do func() error) float64 {
	b.Helper()
	var done atomic.Int64
	var group sync.WaitGroup
	begin := time.Now()
	for range clients {
		group.Go(func() {
			for time.Since(begin) < 2*time.Second {
				if err := do(); err != nil {
					b.Error(err)
					return
				}
				done.Add(1)
			}
		})
	}
	group.Wait()
	return float64(done.Load()) / time.Since(begin).Seconds()
}

func benchLog(b *testing.B) events.Log {
	b.Helper()
	server, err := jetstream.StartServer(jetstream.ServerOptions{Dir: b.TempDir(), Port: -1})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(server.Shutdown)
	conn, err := jetstream.Connect(b.Context(), jetstream.Options{Server: server})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(conn.Close)
	log, err := conn.Log(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	return log
}

func benchEtcd(b *testing.B) *clientv3.Client {
	b.Helper()
	client := startEtcd(b)
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{client}, DialTimeout: 30 * time.Second})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = c.Close() }) // says that its context has ended
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if _, err := c.Get(ctx, "ready"); err != nil {
		b.Fatalf("etcd does not answer: %v", err)
	}
	return c
}
