package image

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
)

// shelf is a store whose images take up room on a disk that is only a number.
type shelf struct {
	*testing.T
	*Collector
	mu     sync.Mutex
	total  int64
	sizes  map[string]int64 // by layer directory
	refs   []string
	layers map[string]bool
	failed []string
}

func newShelf(t *testing.T, p Policy, total int64) *shelf {
	t.Helper()
	s, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	b := &shelf{T: t, total: total, sizes: map[string]int64{}, layers: map[string]bool{}}
	b.Collector = &Collector{Store: s, Policy: p, Guard: &b.mu, Disk: b.disk, Logger: slog.New(slog.DiscardHandler),
		InUse:  func() ([]string, map[string]bool, error) { return b.refs, b.layers, nil },
		Failed: func(err error) { b.failed = append(b.failed, err.Error()) }}
	return b
}

func (b *shelf) disk() (available, total int64, err error) {
	available = b.total
	for dir, size := range b.sizes {
		if _, err := os.Stat(dir); err == nil {
			available -= size
		}
	}
	return available, b.total, nil
}

// put adds an image of one layer beside those it shares, last used that long ago.
func (b *shelf) put(name string, size int64, used time.Duration, shared ...string) {
	b.Helper()
	id := digest.FromString(name)
	e := entry{Ref: "example.com/" + name + ":1", ID: id, Manifest: id, Digest: id, Size: size, Added: time.Now().Add(-24 * time.Hour), Pulled: true}
	for _, l := range append(shared, name) {
		chain := digest.FromString("layer " + l)
		e.Chain = append(e.Chain, chain)
		if err := os.MkdirAll(b.Store.layerPath(chain), 0o755); err != nil {
			b.Fatal(err)
		}
	}
	b.sizes[b.Store.layerPath(e.Chain[len(e.Chain)-1])] = size
	if err := os.WriteFile(b.Store.blobPath(id), []byte("{}"), 0o600); err != nil {
		b.Fatal(err)
	}
	if err := b.Store.changeIndex(func(x *index) error { x.put(e); return nil }); err != nil {
		b.Fatal(err)
	}
	if err := b.Store.Used(id.String(), time.Now().Add(-used)); err != nil {
		b.Fatal(err)
	}
}

// edit changes what the index says of an image.
func (b *shelf) edit(name string, change func(*entry)) {
	b.Helper()
	err := b.Store.changeIndex(func(x *index) error {
		for i := range x.Images {
			if x.Images[i].ID == digest.FromString(name) {
				change(&x.Images[i])
			}
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
}

// left are the images that are there, and whether their layers are.
func (b *shelf) left() string {
	b.Helper()
	list, err := b.Store.List()
	if err != nil {
		b.Fatal(err)
	}
	var out []string
	for _, i := range list {
		name := strings.TrimSuffix(strings.TrimPrefix(i.Ref, "example.com/"), ":1")
		for _, l := range i.Layers {
			if _, err := os.Stat(l); err != nil {
				name += "(broken)"
			}
		}
		out = append(out, name)
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func (b *shelf) round(pressed bool) error {
	b.Helper()
	return b.Round(b.Context(), pressed)
}

func TestCollectorFreesTheLeastRecentlyUsedDownToTheLowThreshold(t *testing.T) {
	b := newShelf(t, Policy{High: 85, Low: 60, MinAge: 2 * time.Minute}, 1000)
	b.put("old", 100, 4*time.Hour)
	b.put("older", 200, 5*time.Hour)
	b.put("new", 200, time.Hour)
	b.put("used", 200, 9*time.Hour)
	b.put("mounted", 100, 9*time.Hour)
	b.refs = []string{"example.com/used:1", "NOT/a name"}
	b.layers[b.Store.layerPath(digest.FromString("layer mounted"))] = true

	if err := b.round(false); err != nil { // 80% in use: below the high threshold
		t.Fatal(err)
	}
	if got, want := b.left(), "mounted new old older used"; got != want {
		t.Errorf("below the threshold: %s, want %s", got, want)
	}
	b.put("more", 50, 10*time.Minute)
	if err := b.round(false); err != nil { // 85%: 250 are to go
		t.Fatal(err)
	}
	if got, want := b.left(), "more mounted new used"; got != want {
		t.Errorf("%s left, want %s", got, want)
	}
}

func TestCollectorKeepsWhatIsYoungSharedOrNotFromARegistry(t *testing.T) {
	b := newShelf(t, Policy{High: 50, Low: 40, MinAge: time.Hour}, 1000)
	b.put("young", 100, time.Hour)
	b.edit("young", func(e *entry) { e.Added = time.Now() })
	b.put("loaded", 400, 9*time.Hour)
	b.edit("loaded", func(e *entry) { e.Pulled = false })
	b.put("base", 200, 8*time.Hour)
	b.put("child", 10, 7*time.Hour, "base")
	b.refs = []string{digest.FromString("child").String()}

	err := b.round(false)
	if err == nil || !strings.Contains(err.Error(), "attempted to free 310 bytes, but only found 0") {
		t.Errorf("a round that cannot free enough says: %v", err)
	}
	// The name of the base image goes; its layer is the child's too.
	if got, want := b.left(), "child loaded young"; got != want {
		t.Errorf("%s left, want %s", got, want)
	}
	now, err2 := b.Store.List()
	if err2 != nil || time.Since(now[0].LastUsed) > time.Minute {
		t.Errorf("the use of the child was not noted: %+v %v", now[0], err2)
	}
}

func TestCollectorRemovesAllUnusedUnderPressureAndTheOldAtAnyTime(t *testing.T) {
	b := newShelf(t, Policy{High: 100, MaxAge: 6 * time.Hour}, 1000)
	b.put("ancient", 1, 7*time.Hour)
	b.put("recent", 1, time.Hour)
	b.put("used", 1, 9*time.Hour)
	b.refs = []string{"example.com/used:1"}
	partial := filepath.Join(b.Store.dir, "partial", digest.FromString("half").Encoded())
	if err := os.WriteFile(partial, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := b.round(false); err != nil {
		t.Fatal(err)
	}
	if got, want := b.left(), "recent used"; got != want {
		t.Errorf("%s left, want %s", got, want)
	}
	if _, err := os.Stat(partial); err != nil {
		t.Errorf("an interrupted download is gone at once: %v", err)
	}
	if err := b.round(true); err != nil {
		t.Fatal(err)
	}
	if got, want := b.left(), "used"; got != want {
		t.Errorf("%s left, want %s", got, want)
	}
	if _, err := os.Stat(partial); err == nil {
		t.Error("an interrupted download takes room under pressure")
	}
}

// An image that somebody began to use after the round had looked stays.
func TestCollectorLooksAgainBeforeItRemoves(t *testing.T) {
	b := newShelf(t, Policy{High: 10, Low: 0}, 100)
	b.put("wanted", 50, time.Hour)
	asked := 0
	b.InUse = func() ([]string, map[string]bool, error) {
		if asked++; asked > 1 {
			if b.mu.TryLock() {
				t.Error("the guard is not held")
			}
			return []string{"example.com/wanted:1"}, nil, nil
		}
		return nil, nil, nil
	}
	if err := b.round(false); err == nil {
		t.Error("nothing was freed and that is no error")
	}
	if got := b.left(); got != "wanted" {
		t.Errorf("%q left", got)
	}
}

func TestCollectorRunsEveryFiveMinutesAndBacksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newShelf(t, DefaultPolicy, 1000)
		var rounds []time.Duration
		begun := time.Now()
		var fail atomic.Bool
		disk := b.Disk
		b.Disk = func() (int64, int64, error) {
			rounds = append(rounds, time.Since(begun))
			if fail.Load() {
				return 0, 0, errors.New("no disk")
			}
			return disk()
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); b.Collector.Run(ctx) }()
		time.Sleep(7 * time.Minute) // rounds after 1 and 6 minutes
		synctest.Wait()
		fail.Store(true)
		time.Sleep(20 * time.Minute) // after 11, then 1, 2, 4 and 5 minutes later
		synctest.Wait()
		fail.Store(false)
		b.Press()
		synctest.Wait()
		cancel()
		<-done
		var want []time.Duration
		for _, minutes := range []int{1, 6, 11, 12, 14, 18, 23, 27} {
			want = append(want, time.Duration(minutes)*time.Minute)
		}
		if !slices.Equal(slices.Compact(rounds), want) {
			t.Errorf("rounds at %v, want %v", rounds, want)
		}
		if len(b.failed) != 5 || b.failed[0] != "no disk" {
			t.Errorf("told of failures: %q", b.failed)
		}
	})
}

func TestPolicyNamesWhatIsWrong(t *testing.T) {
	for want, p := range map[string]Policy{
		"image-gc-high-threshold 101":    {High: 101},
		"image-gc-low-threshold 90":      {High: 85, Low: 90},
		"minimum-image-ttl-duration -1s": {High: 85, Low: 80, MinAge: -time.Second},
	} {
		if err := p.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	if err := DefaultPolicy.Validate(); err != nil {
		t.Error(err)
	}
}
