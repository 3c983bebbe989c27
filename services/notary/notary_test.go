package notary

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/events/memlog"
)

const origin = "orlog.test/log"

func event(n int) events.Event {
	return events.Event{ID: fmt.Sprint("id-", n), Type: "io.orlog.configmap.created", Source: "test", Actor: "user:astrid", UID: fmt.Sprint("uid-", n),
		Time: time.Unix(int64(n), 0), Subject: events.Subject{Class: events.Desired, Key: events.Key{Resource: "configmaps", Namespace: "default", Name: fmt.Sprint("c", n)}},
		Object: json.RawMessage(fmt.Sprintf(`{"data": {"n": "%d"}}`, n)), Reason: "because \"so\" – it is"}
}

func write(t testing.TB, log *memlog.Log, from, to int) {
	t.Helper()
	for n := from; n <= to; n++ {
		if _, err := log.Append(t.Context(), events.Entry{Event: event(n)}); err != nil {
			t.Fatal(err)
		}
	}
}

func open(t testing.TB, dir string) *Notary {
	t.Helper()
	n, err := Open(Options{Dir: dir, Origin: origin})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
			t.Error(err)
		}
	})
	return n
}

// run runs the notary until it has signed so many events.
func run(t testing.TB, n *Notary, log events.Log, until events.Sequence) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	n.o.Interval = time.Millisecond
	go func() { done <- n.Run(ctx, log) }()
	for {
		if c, _ := n.Checkpoint(); c.Size >= until && n.complete(c) == nil {
			break
		}
		select {
		case err := <-done:
			t.Fatalf("run ended: %v", err)
		case <-time.After(time.Millisecond):
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func get(t testing.TB, log events.Log, seq events.Sequence) events.Event {
	t.Helper()
	e, err := log.Get(t.Context(), seq)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestSignsOnceASecondWhileThereIsNews(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := memlog.New()
		defer log.Close()
		copied := filepath.Join(t.TempDir(), "copy")
		n, err := Open(Options{Dir: t.TempDir(), Origin: origin, MaxPending: 100, Copies: []string{copied}})
		if err != nil {
			t.Fatal(err)
		}
		defer n.Close()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- n.Run(ctx, log) }()
		expect := func(what string, size events.Sequence) {
			t.Helper()
			synctest.Wait()
			if c, _ := n.Checkpoint(); c.Size != size {
				t.Fatalf("%s: signed %d, want %d", what, c.Size, size)
			}
		}
		expect("an empty log", 0)
		write(t, log, 1, 5)
		expect("at once", 0)
		time.Sleep(time.Second)
		expect("after a second", 5)
		c, signed := n.Checkpoint()
		time.Sleep(time.Hour)
		if _, again := n.Checkpoint(); string(again) != string(signed) || !c.Time.Before(time.Now()) {
			t.Fatal("signed again without news")
		}
		write(t, log, 6, 205)
		synctest.Wait()
		time.Sleep(0)
		if c, _ := n.Checkpoint(); c.Size < 105 {
			t.Fatalf("200 events wait, signed is %d", c.Size)
		}
		write(t, log, 206, 207)
		synctest.Wait()
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		expect("at the end", 207)
		_, signed = n.Checkpoint()
		if b, err := os.ReadFile(copied); err != nil || string(b) != string(signed) {
			t.Fatalf("copy: %q %v", b, err)
		}
	})
}

func TestProofs(t *testing.T) {
	log := memlog.New()
	defer log.Close()
	n := open(t, t.TempDir())
	if _, err := n.Prove(1); !errors.Is(err, ErrNotSigned) {
		t.Fatalf("proof before there is anything: %v", err)
	}
	var earlier [][]byte
	for size := 1; size <= 40; size += 3 {
		last, _ := n.Checkpoint()
		write(t, log, int(last.Size)+1, size)
		run(t, n, log, events.Sequence(size))
		_, signed := n.Checkpoint()
		earlier = append(earlier, signed)
		for seq := range events.Sequence(size) {
			p, err := n.Prove(seq + 1)
			if err != nil {
				t.Fatal(err)
			}
			b, err := json.Marshal(p) // as it travels
			if err != nil {
				t.Fatal(err)
			}
			var read Inclusion
			if err := json.Unmarshal(b, &read); err != nil {
				t.Fatal(err)
			}
			if c, err := Verify(n.PublicKey(), get(t, log, seq+1), read); err != nil || c.Size != events.Sequence(size) {
				t.Fatalf("event %d of %d: %v", seq+1, size, err)
			}
		}
		for _, old := range earlier {
			c, err := ParseCheckpoint(n.PublicKey(), old)
			if err != nil {
				t.Fatal(err)
			}
			p, err := n.ProveConsistency(c.Size)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := VerifyConsistency(n.PublicKey(), old, p); err != nil {
				t.Fatalf("from %d to %d: %v", c.Size, size, err)
			}
			if _, err := Audit(t.Context(), log, n.PublicKey(), old); err != nil {
				t.Fatalf("audit at %d: %v", c.Size, err)
			}
		}
	}
	if err := n.Audit(t.Context(), log); err != nil {
		t.Fatal(err)
	}
	for _, seq := range []events.Sequence{0, 41} {
		if _, err := n.Prove(seq); !errors.Is(err, ErrNotSigned) {
			t.Fatalf("proof of %d: %v", seq, err)
		}
	}
}

// Every part of an event, of a proof and of a checkpoint is covered by the signature.
func TestVerifyFindsTampering(t *testing.T) {
	log := memlog.New()
	defer log.Close()
	write(t, log, 1, 20)
	n := open(t, t.TempDir())
	run(t, n, log, 20)
	genuine, err := n.Prove(7)
	if err != nil {
		t.Fatal(err)
	}
	for what, change := range map[string]func(*events.Event, *Inclusion){
		"object":     func(e *events.Event, _ *Inclusion) { e.Object = json.RawMessage(`{"data":{"n":"8"}}`) },
		"actor":      func(e *events.Event, _ *Inclusion) { e.Actor = "user:bjorn" },
		"reason":     func(e *events.Event, _ *Inclusion) { e.Reason += "!" },
		"cause":      func(e *events.Event, _ *Inclusion) { e.Cause = 3 },
		"time":       func(e *events.Event, _ *Inclusion) { e.Time = e.Time.Add(time.Nanosecond) },
		"name":       func(e *events.Event, _ *Inclusion) { e.Subject.Key.Name = "other" },
		"node":       func(e *events.Event, _ *Inclusion) { e.Subject.Node = "node-1" },
		"class":      func(e *events.Event, _ *Inclusion) { e.Subject.Class = events.Observed },
		"sequence":   func(e *events.Event, p *Inclusion) { e.Sequence, p.Sequence = 8, 8 },
		"proof's":    func(_ *events.Event, p *Inclusion) { p.Sequence = 8 },
		"path":       func(_ *events.Event, p *Inclusion) { p.Path[0][0] ^= 1 },
		"short path": func(_ *events.Event, p *Inclusion) { p.Path = p.Path[1:] },
		"size": func(_ *events.Event, p *Inclusion) {
			p.Checkpoint = strings.Replace(p.Checkpoint, "\n20\n", "\n21\n", 1)
		},
		"unsigned": func(_ *events.Event, p *Inclusion) {
			p.Checkpoint = p.Checkpoint[:strings.Index(p.Checkpoint, "\n\n")+2]
		},
		"sequence 0":  func(e *events.Event, p *Inclusion) { e.Sequence, p.Sequence = 0, 0 },
		"no proof":    func(_ *events.Event, p *Inclusion) { *p = Inclusion{Sequence: 7} },
		"other's key": func(_ *events.Event, p *Inclusion) { _, b := signedElsewhere(t, log); p.Checkpoint = string(b) },
	} {
		e, p := get(t, log, 7), genuine
		p.Path = append(p.Path[:0:0], genuine.Path...)
		change(&e, &p)
		if _, err := Verify(n.PublicKey(), e, p); !errors.Is(err, ErrTampered) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := Verify(n.PublicKey(), get(t, log, 7), genuine); err != nil {
		t.Fatal(err)
	}
}

func signedElsewhere(t *testing.T, log events.Log) (*Notary, []byte) {
	other := open(t, t.TempDir())
	run(t, other, log, 20)
	_, signed := other.Checkpoint()
	return other, signed
}

func BenchmarkAdd(b *testing.B) {
	n := open(b, b.TempDir())
	all := make([]events.Event, 1000)
	for i := range all {
		all[i] = event(i)
		all[i].Object = json.RawMessage(`{"data":"` + strings.Repeat("x", 1400) + `"}`)
	}
	for i := 0; b.Loop(); i++ {
		e := all[i%len(all)]
		e.Sequence = events.Sequence(i + 1)
		if err := n.add(e); err != nil {
			b.Fatal(err)
		}
		if i%10000 == 9999 {
			if err := n.commit(); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
}
