package jetstream_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"testing"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/events/jetstream"
)

// inCompany appends one event by each of many writers at once, again and again, so that groups form.
func inCompany(t *testing.T, l events.Log) {
	t.Helper()
	var wg sync.WaitGroup
	for w := range 32 {
		wg.Go(func() {
			var last events.Sequence
			for i := range 8 {
				seqs, err := l.Append(t.Context(), guarded(fmt.Sprint("w", w), i, last))
				if err != nil {
					t.Errorf("writer %d: %v", w, err)
					return
				}
				last = seqs[0]
			}
		})
	}
	wg.Wait()
}

// TestStagedInMemory: the server takes the links that it is given, a batch of one caller stays on disk, and nothing
// is left in memory when the server has stopped.
func TestStagedInMemory(t *testing.T) {
	dir := t.TempDir()
	s, err := jetstream.StartServer(jetstream.ServerOptions{Dir: dir, Port: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Shutdown()
	room := jetstream.StagingRoom(t, dir)
	c := connect(t, jetstream.Options{Server: s, OnError: func(err error) { t.Error(err) }})
	l := open(t, c)
	mustAppend(t, l, unguarded("together", 1), unguarded("together", 2))
	if found, err := filepath.Glob(filepath.Join(room, "*")); err != nil || len(found) != 0 {
		t.Errorf("a batch of one caller was staged in memory: %v, %v", found, err)
	}
	inCompany(t, l)
	used, err := filepath.Glob(filepath.Join(room, "*", "msgs"))
	if err != nil || len(used) != 1 { // that of the last group: the others' are gone
		t.Errorf("staged in memory: %v, %v", used, err)
	}
	left, err := filepath.Glob(filepath.Join(dir, "jetstream", "*", "streams", "*", "batches", "*"))
	if err != nil || len(left) != 0 {
		t.Errorf("links left: %v, %v", left, err)
	}
	c.Close()
	s.Shutdown()
	if _, err := os.Stat(room); !os.IsNotExist(err) {
		t.Errorf("%s is left: %v", room, err)
	}
}

var batchID = regexp.MustCompile(`Nats-Batch-Id: (\w+)`)

// TestPowerLoss: where the power fails in the middle of a group, a part of it is on the log, none of it was
// acknowledged, and what was staged is gone. The log goes on from there, and a retry appends what is missing.
func TestPowerLoss(t *testing.T) {
	dir := t.TempDir()
	s, err := jetstream.StartServer(jetstream.ServerOptions{Dir: dir, Port: -1})
	if err != nil {
		t.Fatal(err)
	}
	c := connect(t, jetstream.Options{Server: s})
	l := open(t, c)
	inCompany(t, l)
	mustAppend(t, l, unguarded("a", 1), unguarded("a", 2), unguarded("a", 3)) // for a group: this one's size is known
	last, err := l.Last(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	lost, err := l.Get(t.Context(), last)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	s.Shutdown()

	var batch string
	rewrite(t, dir, func(data []byte) []byte {
		ids := batchID.FindAllSubmatch(data, -1)
		batch = string(ids[len(ids)-1][1])
		return data[:bytes.LastIndex(data, []byte("Nats-Batch-Commit"))]
	})
	removeIndex(t, dir)
	at := filepath.Join(filepath.Dir(files(t, dir, "msgs")[0]), "batches")
	if err := os.MkdirAll(at, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(jetstream.StagingRoom(t, dir), "gone"), filepath.Join(at, jetstream.StagedName(batch))); err != nil {
		t.Fatal(err)
	}

	s, err = jetstream.StartServer(jetstream.ServerOptions{Dir: dir, Port: -1, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Shutdown()
	l = open(t, connect(t, jetstream.Options{Server: s, MustExist: true}))
	if end, err := l.Last(t.Context()); err != nil || end != last-1 {
		t.Fatalf("the log ends at %d, %v; want %d", end, err, last-1)
	}
	lost.Sequence = 0
	for range 2 {
		if seqs, err := l.Append(t.Context(), events.Entry{Event: lost}); err != nil || seqs[0] != last {
			t.Fatalf("retry: %v, %v; want %d", seqs, err, last)
		}
	}
	sub, err := l.Subscribe(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	readTo(t, sub, 1, last)
	if left, err := os.ReadDir(at); err == nil && len(left) != 0 {
		t.Errorf("links left: %v", left)
	}
}
