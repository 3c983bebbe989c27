package sim

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"hash"
	"iter"
	"slices"
	"sort"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/events/memlog"
	"github.com/orlog-io/orlog/services/loop"
)

// record is a log with everything that it ever held, folded without a projection: the yardstick.
type record struct {
	log      *memlog.Log
	events   []events.Event // the event with sequence n is at n-1
	versions map[events.Key][]events.State
	keys     []events.Key // every key ever seen, in order
	sum      hash.Hash
}

func newRecord(log *memlog.Log) *record {
	return &record{log: log, versions: map[events.Key][]events.State{}, sum: sha256.New()}
}

// last is the newest sequence of the log.
func (r *record) last() events.Sequence { return events.Sequence(len(r.events)) }

// note takes up an event that was just appended.
func (r *record) note(e events.Event) (prev, next events.State) {
	r.events = append(r.events, e)
	key := e.Subject.Key
	prev = r.now(key)
	if len(r.versions[key]) == 0 {
		at, _ := slices.BinarySearchFunc(r.keys, key, compareKeys)
		r.keys = slices.Insert(r.keys, at, key)
	}
	next, _ = events.Fold(prev, e)
	r.versions[key] = append(r.versions[key], next)
	w, err := events.Encode(e)
	if err != nil {
		panic("sim: the log holds what cannot be encoded: " + err.Error())
	}
	names := make([]string, 0, len(w.Header))
	for name := range w.Header {
		names = append(names, name)
	}
	slices.Sort(names)
	fmt.Fprintf(r.sum, "%d %s %d\n", e.Sequence, w.Subject, e.Stored.UnixNano())
	for _, name := range names {
		fmt.Fprintf(r.sum, "%s %s\n", name, w.Header[name])
	}
	r.sum.Write(w.Data)
	return prev, next
}

// unseen returns the events that were appended since the last note.
func (r *record) unseen() []events.Event {
	end, err := r.log.Last(context.Background())
	if err != nil {
		panic("sim: " + err.Error())
	}
	var out []events.Event
	for seq := r.last() + 1; seq <= end; seq++ {
		e, err := r.log.Get(context.Background(), seq)
		if err != nil {
			panic("sim: " + err.Error())
		}
		out = append(out, e)
	}
	return out
}

// at is what an object was at a sequence.
func (r *record) at(key events.Key, seq events.Sequence) events.State {
	v := r.versions[key]
	n := sort.Search(len(v), func(i int) bool { return v[i].Newest() > seq })
	if n == 0 {
		return events.State{Key: key}
	}
	return v[n-1]
}

// now is what an object is.
func (r *record) now(key events.Key) events.State { return r.at(key, r.last()) }

func compareKeys(a, b events.Key) int {
	return cmp.Or(cmp.Compare(a.Group, b.Group), cmp.Compare(a.Resource, b.Resource), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
}

// truth reads a record as deciders read a projection, so that invariants see typed objects.
type truth struct {
	r   *record
	seq events.Sequence
}

var _ loop.Reader = truth{}

func (t truth) Sequence() events.Sequence { return t.seq }
func (t truth) Close()                    {}

func (t truth) Get(key events.Key) (events.State, bool, error) {
	s := t.r.at(key, t.seq)
	return s, s.Exists(), nil
}

func (t truth) Cursor(key events.Key) (events.State, error) { return t.r.at(key, t.seq), nil }

func (t truth) List(group, resource, namespace string) iter.Seq2[events.State, error] {
	from, _ := slices.BinarySearchFunc(t.r.keys, events.Key{Group: group, Resource: resource, Namespace: namespace}, compareKeys)
	return func(yield func(events.State, error) bool) {
		for _, k := range t.r.keys[from:] {
			if k.Group != group || k.Resource != resource || (namespace != "" && k.Namespace != namespace) {
				return
			}
			if s := t.r.at(k, t.seq); s.Exists() && !yield(s, nil) {
				return
			}
		}
	}
}

func (t truth) All(namespace string) iter.Seq2[events.State, error] {
	return t.where(func(s events.State) bool { return namespace == "" || s.Key.Namespace == namespace })
}

func (t truth) ByOwner(uid string) iter.Seq2[events.State, error] {
	needle := []byte(`"uid":"` + uid + `"`)
	return t.where(func(s events.State) bool {
		return s.UID != uid && bytes.Contains(s.Object, []byte(`"ownerReferences"`)) && bytes.Contains(s.Object, needle)
	})
}

func (t truth) where(wanted func(events.State) bool) iter.Seq2[events.State, error] {
	return func(yield func(events.State, error) bool) {
		for _, k := range t.r.keys {
			if s := t.r.at(k, t.seq); s.Exists() && wanted(s) && !yield(s, nil) {
				return
			}
		}
	}
}
