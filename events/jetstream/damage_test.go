package jetstream_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/events/jetstream"
)

// damaged gives a server whose log of ten events has one flipped bit in the fifth.
func damaged(t *testing.T) *jetstream.Server {
	t.Helper()
	dir := t.TempDir()
	s, err := jetstream.StartServer(jetstream.ServerOptions{Dir: dir, Port: -1})
	if err != nil {
		t.Fatal(err)
	}
	l := open(t, connect(t, jetstream.Options{URL: s.URL()}))
	for i := range 10 {
		name := "ordinary"
		if i == 4 {
			name = "victim"
		}
		mustAppend(t, l, unguarded(name, i))
	}
	s.Shutdown()
	blocks, err := filepath.Glob(filepath.Join(dir, "jetstream", "*", "streams", jetstream.StreamName, "msgs", "*.blk"))
	if err != nil || len(blocks) != 1 {
		t.Fatalf("blocks: %v %v", blocks, err)
	}
	data, err := os.ReadFile(blocks[0])
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.LastIndex(data, []byte("u-victim"))
	if at < 0 {
		t.Fatal("the victim is not in the block")
	}
	data[at] ^= 1
	if err := os.WriteFile(blocks[0], data, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err = jetstream.StartServer(jetstream.ServerOptions{Dir: dir, Port: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Shutdown)
	return s
}

// TestFlippedBit: the server skips the damaged event and says nothing; the log does.
func TestFlippedBit(t *testing.T) {
	s := damaged(t)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	c := connect(t, jetstream.Options{URL: s.URL(), MinSequence: 10})
	l, err := c.Log(ctx)
	if errors.Is(err, events.ErrGap) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	sub, err := l.Subscribe(ctx, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	for next := events.Sequence(1); ; {
		batch, err := sub.Next(ctx)
		if errors.Is(err, events.ErrGap) && next == 5 {
			break
		}
		if err != nil {
			t.Fatalf("next, at %d: %v; want ErrGap at 5", next, err)
		}
		for _, e := range batch {
			if e.Sequence != next {
				t.Fatalf("got %d, want %d", e.Sequence, next)
			}
			next++
		}
	}
	if _, err := sub.Next(ctx); !errors.Is(err, events.ErrGap) {
		t.Errorf("next after the gap: %v", err)
	}
}
