package jetstream_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/events/jetstream"
)

// payload is about what a pod's event takes.
var payload = fmt.Appendf(nil, `{"metadata":{"uid":"u"},"spec":{"text":%q}}`, strings.Repeat("orlog ", 220))

// BenchmarkAppend compares appending with the disk's own speed, measured in the same run: raw is one file,
// append and fdatasync. Compare x-raw, not the absolutes.
func BenchmarkAppend(b *testing.B) {
	raw := rawSyncs(b)
	for _, writers := range []int{1, 4, 8, 16, 64} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			l := open(b, connect(b, jetstream.Options{Server: start(b)}))
			benchmarkAppend(b, l, writers, raw)
		})
	}
	b.Run("batch=100", func(b *testing.B) {
		l := open(b, connect(b, jetstream.Options{URL: start(b).URL()}))
		entries := make([]events.Entry, 100)
		for b.Loop() {
			for i := range entries {
				entries[i] = events.Entry{Event: pod(events.Desired, fmt.Sprint("p", i), 0)}
				entries[i].Event.Object = payload
			}
			mustAppend(b, l, entries...)
		}
		rate := float64(b.N*len(entries)) / b.Elapsed().Seconds()
		b.ReportMetric(rate, "events/s")
		b.ReportMetric(rate/raw, "x-raw")
	})
}

func benchmarkAppend(b *testing.B, l events.Log, writers int, raw float64) {
	var taken atomic.Int64
	var mu sync.Mutex
	var took []time.Duration
	var wg sync.WaitGroup
	b.ResetTimer()
	for w := range writers {
		wg.Go(func() {
			var last events.Sequence
			var own []time.Duration
			for taken.Add(1) <= int64(b.N) {
				e := guarded(fmt.Sprint("w", w), 0, last)
				e.Event.Object = payload
				began := time.Now()
				seqs, err := l.Append(b.Context(), e)
				if err != nil {
					b.Error(err)
					return
				}
				own = append(own, time.Since(began))
				last = seqs[0]
			}
			mu.Lock()
			took = append(took, own...)
			mu.Unlock()
		})
	}
	wg.Wait()
	b.StopTimer()
	slices.Sort(took)
	rate := float64(b.N) / b.Elapsed().Seconds()
	b.ReportMetric(rate, "events/s")
	b.ReportMetric(rate/raw, "x-raw")
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-us")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-us")
}

// rawSyncs is how many appends of a payload with fdatasync the disk takes in a second.
func rawSyncs(b *testing.B) float64 {
	f, err := os.Create(filepath.Join(b.TempDir(), "raw"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	n, began := 0, time.Now()
	for time.Since(began) < 500*time.Millisecond {
		if _, err := f.Write(payload); err != nil {
			b.Fatal(err)
		}
		if err := syscall.Fdatasync(int(f.Fd())); err != nil {
			b.Fatal(err)
		}
		n++
	}
	return float64(n) / time.Since(began).Seconds()
}

func BenchmarkLast(b *testing.B) {
	l := open(b, connect(b, jetstream.Options{URL: start(b).URL()}))
	mustAppend(b, l, unguarded("a", 1))
	b.Run("callers=1", func(b *testing.B) {
		for b.Loop() {
			if _, err := l.Last(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("callers=64", func(b *testing.B) {
		b.SetParallelism(32)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if _, err := l.Last(b.Context()); err != nil {
					b.Error(err)
				}
			}
		})
	})
}

func BenchmarkGet(b *testing.B) {
	l := open(b, connect(b, jetstream.Options{URL: start(b).URL()}))
	mustAppend(b, l, unguarded("a", 1))
	for b.Loop() {
		if _, err := l.Get(b.Context(), 1); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkLastOnPattern(b *testing.B) {
	l := open(b, connect(b, jetstream.Options{URL: start(b).URL()}))
	for i := range 20 {
		var entries []events.Entry
		for j := range 1000 {
			entries = append(entries, unguarded(fmt.Sprint("p", i*1000+j), j))
		}
		mustAppend(b, l, entries...)
	}
	pattern := pod(events.Desired, "p777", 0).Subject.AnyClass()
	for b.Loop() {
		if _, err := l.LastOn(b.Context(), pattern); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRead reads a log of b.N events from the beginning.
func BenchmarkRead(b *testing.B) {
	benchmarkRead(b, open(b, connect(b, jetstream.Options{URL: start(b).URL()})))
}

func benchmarkRead(b *testing.B, l events.Log) {
	for left := b.N; left > 0; left -= 1000 {
		var entries []events.Entry
		for i := range min(left, 1000) {
			e := unguarded(fmt.Sprint("p", i), i)
			e.Event.Object = payload
			entries = append(entries, e)
		}
		mustAppend(b, l, entries...)
	}
	b.ResetTimer()
	sub, err := l.Subscribe(b.Context(), 1)
	if err != nil {
		b.Fatal(err)
	}
	defer sub.Close()
	readTo(b, sub, 1, events.Sequence(b.N))
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
}

// BenchmarkWake is the time from calling Append to the reader having the event.
func BenchmarkWake(b *testing.B) {
	url := start(b).URL()
	l := open(b, connect(b, jetstream.Options{URL: url}))
	sub, err := open(b, connect(b, jetstream.Options{URL: url})).Subscribe(b.Context(), 1)
	if err != nil {
		b.Fatal(err)
	}
	defer sub.Close()
	for next := events.Sequence(1); b.Loop(); next++ {
		mustAppend(b, l, unguarded("a", 1))
		readTo(b, sub, next, next)
	}
}
