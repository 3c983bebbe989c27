package sim

import (
	"bytes"
	"context"
	"reflect"
	"slices"
	"time"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/projections"
	"github.com/orlog-io/orlog/services/loop"
)

// projection is a component's real store, fed step by step.
type projection struct {
	w       *world
	name    string
	record  *record
	store   *projections.Store
	watcher *projections.Watcher
	// heldUntil: nothing arrives before.
	heldUntil time.Time
	folds     int
}

func (w *world) openProjection(name string, r *record) *projection {
	p := &projection{w: w, name: name, record: r}
	p.reopen()
	return p
}

// reopen begins an empty store, as after a lost disk.
func (p *projection) reopen() {
	p.close()
	s, err := projections.Open(p.name, projections.Options{InMemory: true, CacheBytes: 1 << 20, MemTableBytes: 256 << 10})
	if err != nil {
		p.w.fail(Sound, "opening the projection of %s: %v", p.name, err)
		return
	}
	p.store = s
}

func (p *projection) close() {
	p.unwatch()
	if p.store == nil {
		return
	}
	if err := p.store.Close(); err != nil {
		p.w.fail(Sound, "closing the projection of %s: %v", p.name, err)
	}
	p.store = nil
}

func (p *projection) position() events.Sequence { return p.store.Position() }

// behind says whether events wait to be delivered, and may be.
func (p *projection) behind() bool {
	return p.position() < p.record.last() && !p.w.clock.now.Before(p.heldUntil)
}

// deliver folds some of the events that wait.
func (p *projection) deliver() {
	at := p.position()
	n := 1 + p.w.rng.IntN(int(p.record.last()-at))
	if n > 1 && p.w.rng.IntN(2) == 0 {
		n = 1 + p.w.rng.IntN(min(n, 3))
	}
	batch := p.record.events[p.w.faults.again(at) : int(at)+n]
	if spoil := p.w.bugs.Delivery; spoil != nil {
		batch = slices.Clone(batch)
		for i := range batch {
			batch[i] = spoil(p.name, batch[i])
		}
	}
	if err := p.store.Apply(batch); err != nil {
		p.w.fail(Sound, "%s: folding events %d to %d: %v", p.name, at+1, int(at)+n, err)
		return
	}
	p.compare(batch)
	if p.folds++; p.folds%200 == 0 {
		p.compareAll()
	}
}

// compare checks that the objects which a batch was about are what the yardstick makes of them.
func (p *projection) compare(batch []events.Event) {
	now := p.store.Now()
	defer now.Close()
	for _, e := range batch {
		key := e.Subject.Key
		have, err := now.Cursor(key)
		if err != nil {
			p.w.fail(Sound, "%s: reading %s: %v", p.name, key, err)
			return
		}
		p.same(have, p.record.at(key, now.Sequence()), now.Sequence())
	}
}

// compareAll checks every object.
func (p *projection) compareAll() {
	now := p.store.Now()
	defer now.Close()
	n := 0
	for have, err := range now.List(projections.Selector{}, "") {
		if err != nil {
			p.w.fail(Sound, "%s: listing: %v", p.name, err)
			return
		}
		n++
		p.same(have, p.record.at(have.Key, now.Sequence()), now.Sequence())
	}
	want := 0
	for _, err := range (truth{p.record, now.Sequence()}).All("") {
		if want++; err != nil {
			p.w.fail(Sound, "%s: listing the log's objects: %v", p.name, err)
		}
	}
	if n != want {
		p.w.fail(Folded, "%s holds %d objects at %d, the log makes %d", p.name, n, now.Sequence(), want)
	}
}

func (p *projection) same(have, want events.State, at events.Sequence) {
	if want.Deleted {
		want.Object, have.Object = nil, nil // tombstones are bare without history
	}
	if !bytes.Equal(have.Object, want.Object) || !reflect.DeepEqual(bare(have), bare(want)) {
		p.w.fail(Folded, "%s at %d disagrees with the log about %s:\n have %+v %s\n want %+v %s", p.name, at, want.Key, bare(have), have.Object, bare(want), want.Object)
	}
}

func bare(s events.State) events.State {
	s.Object = nil
	return s
}

// watch begins to collect changes from the position on.
func (p *projection) watch() {
	p.unwatch()
	p.watcher = p.store.Watch(p.position(), projections.Selector{})
}

func (p *projection) unwatch() {
	if p.watcher != nil {
		p.watcher.Close()
		p.watcher = nil
	}
}

// news says whether changes wait to be presented to the deciders.
func (p *projection) news() bool {
	return p.watcher != nil && p.watcher.Position() < p.position()
}

// changes takes what has changed.
func (p *projection) changes() []loop.Change {
	got, err := p.watcher.Next(context.Background())
	if err != nil {
		p.w.fail(Sound, "%s: following the projection: %v", p.name, err)
		return nil
	}
	out := make([]loop.Change, len(got))
	for i, c := range got {
		out[i] = loop.Change{Event: c.Event, Prev: c.Prev, Next: c.Next}
	}
	return out
}
