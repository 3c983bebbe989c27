package projections

import (
	"bytes"
	"encoding/json"
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/orlog-io/orlog/events"
)

// podEvent is about one of many pods: its creation the first time round, then reports of its status.
func podEvent(seq events.Sequence, pods int) events.Event {
	n := int(seq-1) % pods
	e := events.Event{Sequence: seq, Stored: time.Unix(int64(seq), 0).UTC(), ID: fmt.Sprint("event-", seq), Source: "bench", Actor: "system:bench", Time: time.Unix(int64(seq), 0),
		Subject: events.Subject{Class: events.Desired, Key: events.Key{Resource: "pods", Namespace: "default", Name: fmt.Sprintf("pod-%06d", n)}, Node: fmt.Sprint("node-", n%10)},
		Type:    "io.orlog.pod.created", UID: fmt.Sprint("uid-", n)}
	padding := string(bytes.Repeat([]byte("podspec "), 80))
	object := map[string]any{
		"apiVersion": "v1", "kind": "Pod",
		"metadata": map[string]any{"name": e.Subject.Key.Name, "namespace": "default", "uid": e.UID, "labels": map[string]string{"app": "bench"},
			"ownerReferences": []map[string]any{{"kind": "ReplicaSet", "name": "bench", "uid": "owner", "controller": true}}},
		"spec": map[string]any{"containers": []map[string]any{{"name": "c", "image": "registry.example/bench:1", "env": []map[string]string{{"name": "A", "value": padding}}}}},
	}
	if int(seq) > pods {
		e.Subject.Class, e.Type = events.Observed, "io.orlog.pod.started"
		object = map[string]any{"metadata": map[string]string{"uid": e.UID}, "status": map[string]any{"phase": "Running", "n": seq,
			"containerStatuses": []map[string]any{{"name": "c", "ready": true, "image": padding[:300]}}}}
	}
	b, err := json.Marshal(object)
	if err != nil {
		panic(err)
	}
	e.Object = b
	return e
}

func podEvents(from events.Sequence, n, pods int) []events.Event {
	out := make([]events.Event, n)
	for i := range out {
		out[i] = podEvent(from+events.Sequence(i), pods)
	}
	return out
}

// cpuTime is the processor time of this process: on a busy machine it says more than the clock.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func BenchmarkApply(b *testing.B) {
	for _, history := range []bool{false, true} {
		for _, kind := range []string{"create", "report"} {
			b.Run(fmt.Sprintf("%s/history=%t", kind, history), func(b *testing.B) {
				s := open(b, b.TempDir(), Options{History: history})
				first := events.Sequence(1)
				pods := 1 << 30
				if kind == "report" {
					pods = 10000
					for ; int(first) <= pods; first += 500 {
						if err := s.Apply(podEvents(first, 500, pods)); err != nil {
							b.Fatal(err)
						}
					}
				}
				all := podEvents(first, b.N, pods)
				b.ResetTimer()
				cpu := cpuTime(b)
				for len(all) > 0 {
					n := min(500, len(all))
					if err := s.Apply(all[:n]); err != nil {
						b.Fatal(err)
					}
					all = all[n:]
				}
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
				b.ReportMetric(float64((cpuTime(b)-cpu).Microseconds())/float64(b.N), "cpu-us/event")
			})
		}
	}
}

func BenchmarkList(b *testing.B) {
	const pods = 10000
	s := open(b, b.TempDir(), Options{History: true})
	for first := events.Sequence(1); first <= 3*pods; first += 500 {
		if err := s.Apply(podEvents(first, 500, pods)); err != nil {
			b.Fatal(err)
		}
	}
	for _, c := range []struct {
		name string
		at   events.Sequence
	}{{"now", 3 * pods}, {"past", 2 * pods}} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				v, err := s.At(c.at)
				if err != nil {
					b.Fatal(err)
				}
				n, err := v.Count(Selector{Resource: "pods"})
				if err != nil || n != pods {
					b.Fatal(n, err)
				}
				v.Close()
			}
		})
	}
}

func BenchmarkGet(b *testing.B) {
	s := open(b, b.TempDir(), Options{})
	for first := events.Sequence(1); first <= 20000; first += 500 {
		if err := s.Apply(podEvents(first, 500, 10000)); err != nil {
			b.Fatal(err)
		}
	}
	key := podEvent(77, 10000).Subject.Key
	for b.Loop() {
		v := s.Now()
		if _, ok, err := v.Get(key); !ok || err != nil {
			b.Fatal(ok, err)
		}
		v.Close()
	}
}
