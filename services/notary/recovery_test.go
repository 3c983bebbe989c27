package notary

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/events/memlog"
)

// What a crash can leave of the folder, at any moment, leads to the same tree as a run without one.
func TestCrash(t *testing.T) {
	log := memlog.New()
	defer log.Close()
	write(t, log, 1, 70)
	want := root(t, log, 70)
	for _, c := range []struct {
		name  string
		leave func(t *testing.T, dir string, before map[string][]byte)
		from  events.Sequence // where the notary goes on
	}{
		{"after the checkpoint", func(*testing.T, string, map[string][]byte) {}, 50},
		{"before the checkpoint", func(t *testing.T, dir string, before map[string][]byte) {
			put(t, dir, checkpointFile, before[checkpointFile])
		}, 30},
		{"half way through the hashes", func(t *testing.T, dir string, before map[string][]byte) {
			put(t, dir, checkpointFile, before[checkpointFile])
			put(t, dir, hashesFile, read1(t, dir, hashesFile)[:len(before[hashesFile])+100])
		}, 30},
		{"with a tail of rubbish", func(t *testing.T, dir string, before map[string][]byte) {
			put(t, dir, checkpointFile, before[checkpointFile])
			put(t, dir, hashesFile, append(bytes.Clone(before[hashesFile]), bytes.Repeat([]byte{7}, 999)...))
		}, 30},
		{"with a checkpoint not yet in place", func(t *testing.T, dir string, before map[string][]byte) {
			put(t, dir, checkpointFile+".new-1", []byte("orlog.test/log\n5"))
		}, 50},
		{"and the hashes are gone", func(t *testing.T, dir string, _ map[string][]byte) {
			put(t, dir, hashesFile, nil)
		}, 0},
		{"and a hash is damaged", func(t *testing.T, dir string, _ map[string][]byte) {
			b := read1(t, dir, hashesFile)
			for i := range b {
				b[i] ^= 1
			}
			put(t, dir, hashesFile, b)
		}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			n := open(t, dir)
			runTo(t, n, log, 30)
			before := map[string][]byte{checkpointFile: read1(t, dir, checkpointFile), hashesFile: read1(t, dir, hashesFile)}
			runTo(t, n, log, 50)
			if err := n.Close(); err != nil {
				t.Fatal(err)
			}
			c.leave(t, dir, before)
			n = open(t, dir)
			if got := events.Sequence(n.tree.size); got != c.from {
				t.Fatalf("goes on from %d, want %d", got, c.from)
			}
			run(t, n, log, 70)
			if got, _ := n.Checkpoint(); got.Root != want {
				t.Fatalf("root %s, want %s", got.Root, want)
			}
			if err := n.Audit(t.Context(), log); err != nil {
				t.Fatal(err)
			}
			if left, err := filepath.Glob(filepath.Join(dir, "*.new-*")); err != nil || len(left) > 0 {
				t.Fatal(left, err)
			}
		})
	}
}

// runTo signs exactly the log's first events.
func runTo(t *testing.T, n *Notary, log events.Log, to events.Sequence) {
	t.Helper()
	for seq := events.Sequence(n.tree.size) + 1; seq <= to; seq++ {
		if err := n.add(get(t, log, seq)); err != nil {
			t.Fatal(err)
		}
	}
	if err := n.commit(); err != nil {
		t.Fatal(err)
	}
}

func root(t *testing.T, log events.Log, size events.Sequence) any {
	t.Helper()
	var e edge
	if err := read(t.Context(), log, size, e.add); err != nil {
		t.Fatal(err)
	}
	return e.root()
}

func put(t *testing.T, dir, name string, b []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func read1(t *testing.T, dir, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// rewritten is a log of which one event is another one, or which ends early, or which fails at times.
type rewritten struct {
	events.Log
	at          events.Sequence
	end         events.Sequence
	unavailable int
}

func (l *rewritten) Last(ctx context.Context) (events.Sequence, error) {
	last, err := l.Log.Last(ctx)
	if l.end != 0 {
		last = min(last, l.end)
	}
	return last, err
}

func (l *rewritten) Get(ctx context.Context, seq events.Sequence) (events.Event, error) {
	e, err := l.Log.Get(ctx, seq)
	return l.rewrite(e), err
}

func (l *rewritten) rewrite(e events.Event) events.Event {
	if e.Sequence == l.at {
		e.Actor = "user:nobody"
	}
	return e
}

func (l *rewritten) Subscribe(ctx context.Context, from events.Sequence, patterns ...string) (events.Subscription, error) {
	if l.unavailable > 0 {
		l.unavailable--
		return nil, fmt.Errorf("no answer: %w", events.ErrUnavailable)
	}
	sub, err := l.Log.Subscribe(ctx, from, patterns...)
	return &rewrittenSubscription{sub, l}, err
}

type rewrittenSubscription struct {
	events.Subscription
	log *rewritten
}

func (s *rewrittenSubscription) Next(ctx context.Context) ([]events.Event, error) {
	batch, err := s.Subscription.Next(ctx)
	out := make([]events.Event, len(batch))
	for i, e := range batch {
		out[i] = s.log.rewrite(e)
	}
	return out, err
}

func TestRewrittenLog(t *testing.T) {
	log := memlog.New()
	defer log.Close()
	write(t, log, 1, 40)
	dir := t.TempDir()
	n := open(t, dir)
	run(t, n, log, 40)
	_, signed := n.Checkpoint()
	must := func(what string, err error, says string) {
		t.Helper()
		if !errors.Is(err, ErrTampered) || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", what, err)
		}
	}
	altered := &rewritten{Log: log, at: 13}
	must("the notary's audit", n.Audit(t.Context(), altered), "event 13 ")
	_, err := Audit(t.Context(), altered, n.PublicKey(), signed)
	must("the audit", err, "root")
	must("start-up, the last event altered", n.CheckLog(t.Context(), &rewritten{Log: log, at: 40}), "event 40 ")
	must("start-up, the tail lost", n.CheckLog(t.Context(), &rewritten{Log: log, end: 39}), "ends at 39")
	_, err = Audit(t.Context(), &rewritten{Log: log, end: 39}, n.PublicKey(), signed)
	must("the audit, the tail lost", err, "ends at 39")
	must("run, the last event altered", n.Run(t.Context(), &rewritten{Log: log, at: 40}), "event 40 ")
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}

	put(t, dir, hashesFile, nil) // whoever alters the log may alter the hashes; not the signature
	n = open(t, dir)
	n.o.MaxPending = 1
	write(t, log, 41, 45)
	must("run, the hashes gone", n.Run(t.Context(), altered), "the log was altered")
	if _, again := n.Checkpoint(); !bytes.Equal(again, signed) {
		t.Error("signed an altered log")
	}
}

func TestHistoryRewrittenBetweenCheckpoints(t *testing.T) {
	log := memlog.New()
	defer log.Close()
	write(t, log, 1, 30)
	dir := t.TempDir()
	n := open(t, dir)
	runTo(t, n, log, 20)
	_, earlier := n.Checkpoint()
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	// The owner of the server, who has the key, begins a new tree over another history.
	for _, name := range []string{hashesFile, checkpointFile} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	n = open(t, dir)
	run(t, n, &rewritten{Log: log, at: 3}, 30)
	p, err := n.ProveConsistency(20)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := VerifyConsistency(n.PublicKey(), earlier, p); !errors.Is(err, ErrTampered) {
		t.Fatalf("a copy of the earlier checkpoint shows nothing: %v", err)
	}
}

func TestRunRetriesWhileUnavailable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := memlog.New()
		defer log.Close()
		write(t, log, 1, 10)
		n := open(t, t.TempDir())
		run(t, n, &rewritten{Log: log, unavailable: 9}, 10)
	})
}

func TestKey(t *testing.T) {
	log := memlog.New()
	defer log.Close()
	write(t, log, 1, 3)
	dir := t.TempDir()
	n := open(t, dir)
	public := n.PublicKey()
	if info, err := os.Stat(filepath.Join(dir, keyFile)); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatal(info.Mode(), err)
	}
	runTo(t, n, log, 3)
	if again := open(t, dir); again.PublicKey() != public {
		t.Fatal("another key after opening again")
	}
	if _, err := Open(Options{Dir: dir, Origin: "another.log"}); err == nil || !strings.Contains(err.Error(), `"another.log"`) {
		t.Fatalf("another log's folder: %v", err)
	}
	if err := os.Remove(filepath.Join(dir, keyFile)); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Options{Dir: dir, Origin: origin}); err == nil || !strings.Contains(err.Error(), "is missing") {
		t.Fatalf("a lost key: %v", err)
	}
}
