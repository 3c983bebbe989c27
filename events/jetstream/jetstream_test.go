package jetstream_test

import (
	"testing"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/events/jetstream"
	"github.com/orlog-io/orlog/events/logtest"
)

// start gives a running server on an empty directory.
func start(t testing.TB) *jetstream.Server {
	t.Helper()
	s, err := jetstream.StartServer(jetstream.ServerOptions{Dir: t.TempDir(), Port: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Shutdown)
	return s
}

func connect(t testing.TB, o jetstream.Options) *jetstream.Conn {
	t.Helper()
	c, err := jetstream.Connect(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func open(t testing.TB, c *jetstream.Conn) events.Log {
	t.Helper()
	l, err := c.Log(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestSuite(t *testing.T) {
	logtest.Run(t, func(t *testing.T) events.Log {
		return open(t, connect(t, jetstream.Options{URL: start(t).URL(), Name: "suite"}))
	})
}
