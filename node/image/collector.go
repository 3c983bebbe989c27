package image

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/orlog-io/orlog/events"
)

const (
	// collectEvery is how often the disk is looked at; after a round that failed it is soon, then ever later.
	collectEvery = 5 * time.Minute
	collectSoon  = time.Minute
)

// Policy says when images that nobody uses go, as the kubelet's settings of the same names do.
type Policy struct {
	// High and Low are percentages of the file system: from High on the least recently used images go, until Low is
	// reached. High 100: never because of the disk.
	High, Low int
	// MinAge is how long an image stays after it came, used or not.
	MinAge time.Duration
	// MaxAge is how long an image stays that nobody uses, however empty the disk is; 0: for ever.
	MaxAge time.Duration
}

// DefaultPolicy is the kubelet's.
var DefaultPolicy = Policy{High: 85, Low: 80, MinAge: 2 * time.Minute}

// Validate names the setting that makes no sense.
func (p Policy) Validate() error {
	switch {
	case p.High < 0 || p.High > 100:
		return fmt.Errorf("image-gc-high-threshold %d: want a percentage, 0 to 100", p.High)
	case p.Low < 0 || p.Low > 100:
		return fmt.Errorf("image-gc-low-threshold %d: want a percentage, 0 to 100", p.Low)
	case p.Low > p.High:
		return fmt.Errorf("image-gc-low-threshold %d: want at most image-gc-high-threshold, which is %d", p.Low, p.High)
	case p.MinAge < 0 || p.MaxAge < 0:
		return fmt.Errorf("minimum-image-ttl-duration %s, maximum-image-ttl-duration %s: want no negative times", p.MinAge, p.MaxAge)
	}
	return nil
}

// Collector removes images that nobody uses: those that came from a registry, which could give them back. What was
// loaded or packed on this node stays.
type Collector struct {
	Store *Store
	Policy
	// InUse tells which images are used, by any spelling of their names or IDs, and the directories of layers that
	// something is mounted on.
	InUse func() (refs []string, layers map[string]bool, err error)
	// Guard is locked while it is decided whether an image is used and until it is gone. Whoever begins to use one
	// holds it against that.
	Guard sync.Locker
	// Disk returns the available and all bytes of the store's file system; nil: the kernel tells.
	Disk func() (available, total int64, err error)
	// Failed is told of rounds that did not do what they should; may be nil.
	Failed func(error)
	Logger *slog.Logger

	once sync.Once
	now  chan struct{} // capacity 1
}

func (c *Collector) hurry() chan struct{} {
	c.once.Do(func() { c.now = make(chan struct{}, 1) })
	return c.now
}

// Press has all unused images removed at once: the node is short of disk space.
func (c *Collector) Press() {
	select {
	case c.hurry() <- struct{}{}:
	default:
	}
}

// Run looks at the disk now and then until ctx ends.
func (c *Collector) Run(ctx context.Context) {
	soon := collectSoon
	wait := collectSoon
	for {
		pressed := false
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		case <-c.hurry():
			pressed = true
		}
		timer.Stop()
		err := c.Round(ctx, pressed)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			soon, wait = collectSoon, collectEvery
			continue
		}
		c.Logger.Warn("removing unused images", events.LogError, err, "again", soon)
		if c.Failed != nil {
			c.Failed(err)
		}
		wait, soon = soon, min(2*soon, collectEvery)
	}
}

// Round removes what the policy wants gone; pressed: all that nobody uses. An error says what it could not do.
func (c *Collector) Round(ctx context.Context, pressed bool) error {
	refs, layers, err := c.InUse()
	if err != nil {
		return err
	}
	if err := c.Store.collect(ctx, layers, pressed); err != nil {
		return err
	}
	now := time.Now()
	list, err := c.candidates(refs, layers, now)
	if err != nil {
		return err
	}
	if c.MaxAge > 0 {
		old, young := list, []candidate(nil)
		if i := slices.IndexFunc(list, func(x candidate) bool { return now.Sub(x.used) <= c.MaxAge }); i >= 0 {
			old, young = list[:i], list[i:]
		}
		if _, err := c.free(ctx, old, math.MaxInt64); err != nil {
			return err
		}
		list = young
	}
	want, percent, err := c.excess()
	if err != nil {
		return err
	}
	if pressed {
		_, err := c.free(ctx, list, math.MaxInt64)
		return err
	}
	if want <= 0 {
		return nil
	}
	c.Logger.Info("disk usage is over the threshold, removing images that nobody uses", "usage", percent, "threshold", c.High, "free", want)
	freed, err := c.free(ctx, list, want)
	if err == nil && freed < want {
		err = fmt.Errorf("%w: attempted to free %d bytes, but only found %d bytes eligible to free", ErrNotFreed, want, freed)
	}
	return err
}

// excess is how many bytes are to be freed, 0 below the threshold.
func (c *Collector) excess() (bytes int64, percent int, err error) {
	available, total, err := c.disk()
	if err != nil {
		return 0, 0, err
	}
	if total <= 0 {
		return 0, 0, fmt.Errorf("image: the file system of %s says that it has %d bytes", c.Store.dir, total)
	}
	percent = 100 - int(available*100/total)
	if c.High >= 100 || percent < c.High {
		return 0, percent, nil
	}
	return total/100*int64(100-c.Low) - available, percent, nil
}

func (c *Collector) disk() (available, total int64, err error) {
	if c.Disk != nil {
		return c.Disk()
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(c.Store.dir, &fs); err != nil {
		return 0, 0, fmt.Errorf("image: file system of %s: %w", c.Store.dir, err)
	}
	return int64(fs.Bavail) * fs.Bsize, int64(fs.Blocks) * fs.Bsize, nil
}

// candidate is an image that may go.
type candidate struct {
	id   string
	name string // for people
	used time.Time
}

// candidates are the images that nobody uses and that are old enough, least recently used first. Those in use are noted
// to have been used now.
func (c *Collector) candidates(refs []string, layers map[string]bool, now time.Time) ([]candidate, error) {
	images, err := c.Store.List()
	if err != nil {
		return nil, err
	}
	used, err := c.used(refs, layers, images)
	if err != nil {
		return nil, err
	}
	var out []candidate
	at := map[string]int{}
	stays := map[string]bool{}
	for _, img := range images {
		if used[img.ID] && !stays[img.ID] {
			if err := c.Store.Used(img.ID, now); err != nil {
				return nil, err
			}
		}
		stays[img.ID] = stays[img.ID] || used[img.ID] || !img.Pulled || now.Sub(img.Added) < c.MinAge
		if _, known := at[img.ID]; !known {
			at[img.ID] = len(out)
			out = append(out, candidate{img.ID, cmp.Or(img.Ref, img.ID), img.LastUsed})
		}
	}
	out = slices.DeleteFunc(out, func(x candidate) bool { return stays[x.id] })
	slices.SortStableFunc(out, func(a, b candidate) int { return a.used.Compare(b.used) })
	return out, nil
}

// used are the IDs of the images in use.
func (c *Collector) used(refs []string, layers map[string]bool, images []Image) (map[string]bool, error) {
	x, err := c.Store.readIndex()
	if err != nil {
		return nil, err
	}
	used := map[string]bool{}
	for _, ref := range refs {
		if i, err := x.find(ref); err == nil && i >= 0 { // a pod's image may have no valid name at all
			used[x.Images[i].ID.String()] = true
		}
	}
	for _, img := range images {
		if n := len(img.Layers); n > 0 && layers[img.Layers[n-1]] {
			used[img.ID] = true
		}
	}
	return used, nil
}

// free removes images until that many bytes have become available, and returns how many have.
func (c *Collector) free(ctx context.Context, list []candidate, want int64) (freed int64, err error) {
	before, _, err := c.disk()
	if err != nil {
		return 0, err
	}
	for _, x := range list {
		if freed >= want {
			break
		}
		if err := c.remove(ctx, x); err != nil {
			return freed, err
		}
		now, _, err := c.disk()
		if err != nil {
			return freed, err
		}
		freed = max(now-before, 0) // others write to the disk meanwhile
	}
	return freed, nil
}

// remove removes one image, if still nobody uses it.
func (c *Collector) remove(ctx context.Context, x candidate) error {
	c.Guard.Lock()
	defer c.Guard.Unlock()
	refs, layers, err := c.InUse()
	if err != nil {
		return err
	}
	images, err := c.Store.List()
	if err != nil {
		return err
	}
	used, err := c.used(refs, layers, images)
	if err != nil || used[x.id] {
		return err
	}
	c.Logger.Info("removing an image that nobody uses", "image", x.name, "id", x.id, "lastUsed", x.used)
	return c.Store.Remove(ctx, x.id, layers)
}
