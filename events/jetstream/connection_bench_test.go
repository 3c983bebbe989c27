package jetstream_test

import (
	"testing"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/events/jetstream"
)

// BenchmarkConnection compares the ways to the server: TCP, TLS over TCP, and none (the server's own process).
func BenchmarkConnection(b *testing.B) {
	raw := rawSyncs(b)
	for name, connectTo := range map[string]func() *jetstream.Conn{
		"tcp":     func() *jetstream.Conn { return connect(b, jetstream.Options{URL: start(b).URL()}) },
		"process": func() *jetstream.Conn { return connect(b, jetstream.Options{Server: start(b)}) },
		"tls": func() *jetstream.Conn {
			config, authority := selfSigned(b)
			s, err := jetstream.StartServer(jetstream.ServerOptions{Dir: b.TempDir(), Port: -1, TLS: config})
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(s.Shutdown)
			return connect(b, jetstream.Options{URL: s.URL(), TLS: trusting(authority)})
		},
	} {
		b.Run(name+"/append", func(b *testing.B) { benchmarkAppend(b, open(b, connectTo()), 64, raw) })
		b.Run(name+"/read", func(b *testing.B) { benchmarkRead(b, open(b, connectTo())) })
		b.Run(name+"/wake", func(b *testing.B) {
			l := open(b, connectTo())
			sub, err := l.Subscribe(b.Context(), 1)
			if err != nil {
				b.Fatal(err)
			}
			defer sub.Close()
			for next := events.Sequence(1); b.Loop(); next++ {
				mustAppend(b, l, unguarded("a", 1))
				readTo(b, sub, next, next)
			}
		})
	}
}
