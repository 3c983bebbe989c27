package projections

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/events/memlog"
)

func digest(t testing.TB, s *Store) string {
	t.Helper()
	d, err := s.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func digestAt(t testing.TB, s *Store, seq events.Sequence) string {
	t.Helper()
	v, err := s.At(seq)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	d, err := v.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// A store rebuilt from nothing, in batches of any size, is the same store.
func TestRebuiltIsTheSame(t *testing.T) {
	all := newHistory(21).events(400)
	a := open(t, t.TempDir(), Options{History: true})
	apply(t, a, all)
	b := open(t, "store", Options{History: true, InMemory: true})
	if err := b.Apply(all); err != nil {
		t.Fatal(err)
	}
	mustEqual(t, "digest", digest(t, a), digest(t, b))
	present := open(t, "store", Options{InMemory: true})
	for i := range all {
		apply(t, present, all[i:i+1])
		seq := events.Sequence(i + 1)
		mustEqual(t, "digest of a view of the past, and of a store that was there", digestAt(t, present, seq), digestAt(t, a, seq))
	}
}

func TestReapplyIsNoOp(t *testing.T) {
	all := newHistory(22).events(60)
	s := open(t, "store", Options{History: true, InMemory: true})
	apply(t, s, all[:40])
	before := digest(t, s)
	apply(t, s, all[:30])
	mustEqual(t, "digest", before, digest(t, s))
	if err := s.Apply(all[20:]); err != nil {
		t.Fatal(err)
	}
	again := open(t, "store", Options{History: true, InMemory: true})
	apply(t, again, all)
	mustEqual(t, "digest", digest(t, again), digest(t, s))
	if err := s.Apply([]events.Event{{Sequence: 62, Subject: all[0].Subject}, {Sequence: 61, Subject: all[0].Subject}}); !errors.Is(err, events.ErrInvalid) {
		t.Fatalf("events out of order: %v", err)
	}
	mustEqual(t, "position", events.Sequence(60), s.Position())
}

// Whatever a crash leaves of unsynced writes, the store opens at one position, with exactly its rows, and
// goes on from there.
func TestCrash(t *testing.T) {
	all := newHistory(23).events(400)
	want := map[events.Sequence]string{}
	whole := open(t, "store", Options{History: true, InMemory: true})
	want[0] = digest(t, whole)
	for i := range all {
		apply(t, whole, all[i:i+1])
		want[whole.Position()] = digest(t, whole)
	}
	r := rand.New(rand.NewPCG(1, 2))
	fs := vfs.NewCrashableMem()
	lost := 0
	for crash := 0; crash < 25; crash++ {
		o := Options{History: true, MemTableBytes: 256 << 10, fs: fs}
		s := open(t, "store", o)
		at := s.Position()
		mustEqual(t, "digest after a crash", want[at], digest(t, s))
		for n := range 40 {
			next := int(s.Position())
			if err := s.Apply(all[next:min(len(all), next+1+r.IntN(3))]); err != nil {
				t.Fatal(err)
			}
			if n%15 == 14 {
				if err := s.db.Flush(); err != nil {
					t.Fatal(err)
				}
			}
		}
		fs = fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: r.IntN(101), RNG: r})
		reopened := open(t, "store", Options{History: true, fs: fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: r})})
		lost += int(s.Position() - reopened.Position())
		if reopened.Position() == events.Sequence(len(all)) {
			break
		}
	}
	if lost == 0 {
		t.Fatal("no crash lost anything: the test shows nothing")
	}
	s := open(t, "store", Options{History: true, fs: fs})
	apply(t, s, all)
	mustEqual(t, "digest at the end", want[events.Sequence(len(all))], digest(t, s))
}

func TestOtherFormatIsRebuilt(t *testing.T) {
	all := newHistory(24).events(50)
	dir := t.TempDir()
	s := open(t, dir, Options{History: true})
	apply(t, s, all)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s, err := Open(dir, Options{History: true}); err != nil || s.Position() != 50 || s.Close() != nil {
		t.Fatalf("the same options: %v", err)
	}
	s = open(t, dir, Options{Scope: "node-1"})
	mustEqual(t, "position", events.Sequence(0), s.Position())
	v := s.Now()
	defer v.Close()
	if n, err := v.Count(Selector{}); n != 0 || err != nil {
		t.Fatal(n, err)
	}
	err := s.CheckLog(t.Context(), &fakeLog{events: all[:49]})
	if !errors.Is(err, events.ErrGap) || !strings.Contains(err.Error(), "up to sequence 50") {
		t.Fatalf("a rebuilt store forgot how far it had come: %v", err)
	}
	apply(t, s, all)
	fresh := open(t, "store", Options{InMemory: true})
	apply(t, fresh, all)
	mustEqual(t, "digest", digest(t, fresh), digest(t, s))
}

// A store that reads a part of the log has caught up at the newest event of that part.
func TestPatterns(t *testing.T) {
	m, log := model{newHistory(25).events(100)}, memlog.New()
	pods := "orlog.*.core.pods.>"
	s := open(t, "store", Options{InMemory: true, History: true, Patterns: []string{pods, "orlog.*.core.no-such-resource.>"}})
	if end, err := s.End(t.Context(), log); err != nil || end != 0 {
		t.Fatalf("the end of an empty log: %d, %v", end, err)
	}
	var want events.Sequence
	for _, e := range m.log {
		seqs, err := log.Append(t.Context(), events.Entry{Event: e})
		if err != nil {
			t.Fatal(err)
		}
		if events.Matches(pods, e.Subject.String()) {
			want = seqs[0]
		}
	}
	if want == 0 || want == 100 {
		t.Fatalf("the newest event about a pod is %d: the test shows nothing", want)
	}
	end, err := s.End(t.Context(), log)
	if err != nil || end != want {
		t.Fatalf("end: %d, %v; want %d", end, err, want)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Follow(ctx, log) }()
	if err := s.WaitFor(t.Context(), end); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	mustEqual(t, "position", want, s.Position())
	v := s.Now()
	defer v.Close()
	mustEqual(t, "keys", keysOf(m.list(100, Selector{Resource: "pods"})), keysOf(collect(t, v.List(Selector{}, ""))))
}

func keysOf(states []events.State) (keys []events.Key) {
	for _, s := range states {
		keys = append(keys, s.Key)
	}
	return keys
}

// Without history, what is needed to write about an object that is gone stays; its last state does not.
func TestCursorsOutliveObjects(t *testing.T) {
	m := model{newHistory(26).events(200)}
	s := open(t, "store", Options{InMemory: true})
	apply(t, s, m.log)
	v := s.Now()
	defer v.Close()
	gone := 0
	for k, want := range m.states(200) {
		if !want.Exists() {
			want.Object = nil
			gone++
		}
		got, err := v.Cursor(k)
		if err != nil {
			t.Fatal(err)
		}
		mustEqual(t, "cursor", want, got)
	}
	if gone == 0 {
		t.Fatal("nothing was deleted: the test shows nothing")
	}
	for _, err := range []error{pastError(s.At(100)), pastError(s.AtTime(m.log[100].Stored)), timelineError(s, m.log[0].Subject.Key)} {
		if !errors.Is(err, ErrTooOld) {
			t.Fatalf("the past of a store without history: %v", err)
		}
	}
	if err := pastError(s.At(201)); !errors.Is(err, ErrFuture) {
		t.Fatalf("the future: %v", err)
	}
}

func pastError(_ *View, err error) error { return err }

func timelineError(s *Store, k events.Key) error {
	for _, err := range s.Timeline(k, 0, 0) {
		return err
	}
	return nil
}

func TestAtTime(t *testing.T) {
	m := model{newHistory(27).events(200)}
	s := open(t, "store", Options{InMemory: true, History: true})
	apply(t, s, m.log)
	begin := m.log[0].Stored
	for at := begin.Add(-2 * time.Second); at.Before(begin.Add(5 * time.Minute)); at = at.Add(500 * time.Millisecond) {
		want := events.Sequence(0)
		for _, e := range m.log {
			if e.Stored.After(at) {
				break
			}
			want = e.Sequence
		}
		v, err := s.AtTime(at)
		if err != nil {
			t.Fatal(err)
		}
		mustEqual(t, at.String(), want, v.Sequence())
		v.Close()
	}
}

func TestWaitFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := newHistory(28).events(30)
		s := open(t, "store", Options{InMemory: true})
		returned := make(chan events.Sequence, len(all))
		for _, e := range all {
			go func() {
				if err := s.WaitFor(t.Context(), e.Sequence); err != nil {
					t.Error(err)
				}
				returned <- e.Sequence
			}()
		}
		for i := range all {
			synctest.Wait()
			mustEqual(t, "returned", i, len(returned))
			apply(t, s, all[i:i+1])
		}
		synctest.Wait()
		mustEqual(t, "returned", len(all), len(returned))

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := s.WaitFor(ctx, 31); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("a sequence that never comes: %v", err)
		}
		closed := make(chan error)
		go func() { closed <- s.WaitFor(t.Context(), 31) }()
		synctest.Wait()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if err := <-closed; !errors.Is(err, events.ErrClosed) {
			t.Fatalf("waiting while the store is closed: %v", err)
		}
	})
}

func TestClosedStore(t *testing.T) {
	all := newHistory(29).events(30)
	s := open(t, t.TempDir(), Options{History: true})
	apply(t, s, all)
	v := s.Now()
	w := s.Watch(0, Selector{})
	for st, err := range v.List(Selector{}, "") { // closing the view within the loop ends nothing under way
		if err != nil || !st.Exists() {
			t.Fatal(st, err)
		}
		v.Close()
	}
	left := s.Now() // nobody closes it
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	_, cursorErr := left.Cursor(all[0].Subject.Key)
	_, countErr := s.Now().Count(Selector{})
	_, digestErr := s.Digest()
	_, _, eventErr := s.EventAt(1)
	_, nextErr := w.Next(t.Context())
	_, watchErr := s.Watch(0, Selector{}).Next(t.Context())
	for i, err := range []error{cursorErr, countErr, digestErr, eventErr, nextErr, watchErr, s.Apply(all), s.WaitFor(t.Context(), 99),
		pastError(s.At(1)), timelineError(s, all[0].Subject.Key)} {
		if !errors.Is(err, events.ErrClosed) {
			t.Errorf("call %d on a closed store: %v", i, err)
		}
	}
}
