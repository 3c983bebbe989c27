package jetstream_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/events/jetstream"
)

// stored is a directory that holds a log of ten events, the fifth about the object "victim", and no server.
func stored(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	s, err := jetstream.StartServer(jetstream.ServerOptions{Dir: dir, Port: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Shutdown()
	l := open(t, connect(t, jetstream.Options{URL: s.URL()}))
	for i := range 10 {
		name := "ordinary"
		if i == 4 {
			name = "victim"
		}
		mustAppend(t, l, unguarded(name, i))
	}
	return dir
}

// files are what a pattern finds in the stream's folder.
func files(t *testing.T, dir, pattern string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, "jetstream", "*", "streams", jetstream.StreamName, pattern))
	if err != nil || len(found) == 0 {
		t.Fatalf("%s: %v %v", pattern, found, err)
	}
	return found
}

// rewrite changes the stream's only block.
func rewrite(t *testing.T, dir string, change func([]byte) []byte) {
	t.Helper()
	blocks := files(t, dir, "msgs/*.blk")
	if len(blocks) != 1 {
		t.Fatalf("blocks: %v", blocks)
	}
	data, err := os.ReadFile(blocks[0])
	if err == nil {
		err = os.WriteFile(blocks[0], change(data), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func flipBit(t *testing.T, dir string) {
	rewrite(t, dir, func(data []byte) []byte {
		at := bytes.LastIndex(data, []byte("u-victim"))
		if at < 0 {
			t.Fatal("the victim is not in the block")
		}
		data[at] ^= 1
		return data
	})
}

func removeIndex(t *testing.T, dir string) {
	for _, f := range files(t, dir, "msgs/index.db") {
		if err := os.Remove(f); err != nil {
			t.Fatal(err)
		}
	}
}

func cutTail(t *testing.T, dir string) {
	rewrite(t, dir, func(data []byte) []byte { return data[:len(data)*7/10] })
}

// TestDamage: what the server makes of damaged files, it does in silence: it skips the event, or cuts the rest
// off, or goes on without the stream. The log says what is missing, and what to do.
func TestDamage(t *testing.T) {
	for name, c := range map[string]struct {
		damage func(t *testing.T, dir string)
		want   string // what the refusal says; "": the log comes up whole
	}{
		"missing index":                   {removeIndex, ""},
		"a flipped bit":                   {flipBit, "events are missing. Stop, and restore the stream from a backup"},
		"a flipped bit, no index":         {func(t *testing.T, dir string) { flipBit(t, dir); removeIndex(t, dir) }, "estore"},
		"a truncated block":               {cutTail, "events are missing"},
		"a truncated block, no index":     {func(t *testing.T, dir string) { cutTail(t, dir); removeIndex(t, dir) }, "its tail is lost"},
		"an emptied block":                {func(t *testing.T, dir string) { rewrite(t, dir, func([]byte) []byte { return nil }) }, "its files are damaged"},
		"no blocks":                       {func(t *testing.T, dir string) { removeAll(t, files(t, dir, "msgs")...) }, "estore"},
		"no stream":                       {func(t *testing.T, dir string) { removeAll(t, files(t, dir, "")...) }, "not created anew"},
		"no store":                        {func(t *testing.T, dir string) { removeAll(t, filepath.Join(dir, "jetstream")) }, "not created anew"},
		"a description that is no longer": {func(t *testing.T, dir string) { removeAll(t, files(t, dir, "meta.inf")...) }, "could not load it"},
		"a damaged description": {func(t *testing.T, dir string) {
			if err := os.WriteFile(files(t, dir, "meta.inf")[0], []byte("{"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, "could not load it"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := stored(t)
			c.damage(t, dir)
			err := readWhole(t, dir)
			switch {
			case c.want == "" && err != nil:
				t.Errorf("it did not come up whole: %v", err)
			case c.want != "" && (!errors.Is(err, events.ErrGap) || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "estore")):
				t.Errorf("got: %v\nwant ErrGap, with %q and how to restore", err, c.want)
			default:
				t.Log(err)
			}
		})
	}
}

func removeAll(t *testing.T, paths ...string) {
	for _, p := range paths {
		if err := os.RemoveAll(p); err != nil {
			t.Fatal(err)
		}
	}
}

// readWhole starts a server on a directory and reads the log of ten events from its beginning, as somebody who
// has seen all ten before.
func readWhole(t *testing.T, dir string) error {
	t.Helper()
	s, err := jetstream.StartServer(jetstream.ServerOptions{Dir: dir, Port: -1, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	defer s.Shutdown()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	c := connect(t, jetstream.Options{URL: s.URL(), MustExist: true, MinSequence: 10})
	l, err := c.Log(ctx)
	if err != nil {
		return err
	}
	sub, err := l.Subscribe(ctx, 1)
	if err != nil {
		return err
	}
	defer sub.Close()
	for next := events.Sequence(1); next <= 10; {
		batch, err := sub.Next(ctx)
		if err != nil {
			if _, again := sub.Next(ctx); !errors.Is(again, events.ErrGap) {
				t.Errorf("next after %v: %v", err, again)
			}
			return err
		}
		for _, e := range batch {
			if e.Sequence != next {
				t.Fatalf("got %d, want %d", e.Sequence, next)
			}
			next++
		}
	}
	return nil
}

// TestMissingKey: a store that is encrypted, started without its key, is refused and left as it is.
func TestMissingKey(t *testing.T) {
	dir := t.TempDir()
	encrypted := func() (*server.Server, events.Log) {
		t.Helper()
		s, err := server.NewServer(&server.Options{ServerName: "orlog", Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: dir, SyncAlways: true,
			MaxPayload: 5 << 20, JetStreamKey: "the key", NoSigs: true, NoLog: true})
		if err != nil {
			t.Fatal(err)
		}
		s.Start()
		if !s.ReadyForConnections(30 * time.Second) {
			t.Fatal("not ready")
		}
		return s, open(t, connect(t, jetstream.Options{URL: s.ClientURL()}))
	}
	s, l := encrypted()
	mustAppend(t, l, unguarded("sealed", 1), unguarded("sealed", 2))
	s.Shutdown()
	s.WaitForShutdown()
	for range 2 { // nor at a second try
		err := readWhole(t, dir)
		if !errors.Is(err, events.ErrGap) || !strings.Contains(err.Error(), "encrypted with a key that this server was not given") || !strings.Contains(err.Error(), "start a server that has the key") {
			t.Fatalf("got: %v", err)
		}
	}
	s, l = encrypted()
	defer s.Shutdown()
	if last, err := l.Last(t.Context()); err != nil || last != 2 {
		t.Errorf("with its key the log ends at %d, %v; want 2", last, err)
	}
}

// TestStreamDeleted: a stream that is deleted under its readers halts them, and its writers are not told that all
// is well.
func TestStreamDeleted(t *testing.T) {
	s := start(t)
	c := connect(t, jetstream.Options{URL: s.URL(), Patience: time.Second})
	l := open(t, c)
	sub, err := l.Subscribe(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	mustAppend(t, l, unguarded("a", 1))
	readTo(t, sub, 1, 1)
	nc, err := nats.Connect(s.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := natsjs.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	if err := js.DeleteStream(t.Context(), jetstream.StreamName); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, err = sub.Next(ctx)
	if !errors.Is(err, events.ErrGap) || !strings.Contains(err.Error(), "is gone") || !strings.Contains(err.Error(), "restore it from a backup") {
		t.Errorf("the reader got %v", err)
	}
	if seqs, err := l.Append(t.Context(), unguarded("a", 2)); err == nil {
		t.Errorf("an append to no stream gave %v", seqs)
	}
	if _, err := l.Last(t.Context()); err == nil {
		t.Error("the end of no stream was found")
	}
}
