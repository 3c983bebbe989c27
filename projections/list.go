package projections

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
	"strings"

	"github.com/cockroachdb/pebble/v2"

	"github.com/orlog-io/orlog/events"
)

// Selector picks objects. An empty Namespace or Name stands for all of them, an empty Resource for all
// resources of all groups. Group "" is the core group.
type Selector struct {
	Group, Resource, Namespace, Name string
	// Ignored makes a watcher deliver events too that changed nothing (a report about an object that is gone).
	Ignored bool
}

// Matches reports whether the selector picks the key.
func (sel Selector) Matches(k events.Key) bool {
	return (sel.Resource == "" || (sel.Resource == k.Resource && sel.Group == k.Group)) &&
		(sel.Namespace == "" || sel.Namespace == k.Namespace) && (sel.Name == "" || sel.Name == k.Name)
}

// prefix is what the rows of all selected objects begin with, after the byte of their keyspace.
func (sel Selector) prefix(space byte) []byte {
	b := []byte{space}
	if sel.Resource == "" {
		return b
	}
	b = appendToken(appendToken(b, sel.Group), sel.Resource)
	if sel.Namespace == "" {
		return b
	}
	if b = appendToken(b, sel.Namespace); sel.Name != "" {
		b = appendToken(b, sel.Name)
	}
	return b
}

// bounds limits an iterator to the selected rows, beginning with the object named from.
func (sel Selector) bounds(space byte, from string) *pebble.IterOptions {
	prefix := sel.prefix(space)
	o := &pebble.IterOptions{LowerBound: prefix, UpperBound: after(prefix)}
	if from == "" || sel.Resource == "" {
		return o
	}
	namespace, name, namespaced := strings.Cut(from, "/")
	if !namespaced {
		namespace, name = "", from
	}
	start := appendToken(appendToken([]byte{space}, sel.Group), sel.Resource)
	start = appendToken(appendToken(start, namespace), name)
	if bytes.Compare(start, prefix) > 0 {
		o.LowerBound = start
	}
	return o
}

// List yields the selected live objects, ordered by namespace and name, byte by byte. from, where not "",
// is "namespace/name" (or the name, where cluster-scoped) to begin at, whether or not that object exists; it
// is only heard where the selector names a resource. After an error nothing follows.
func (v *View) List(sel Selector, from string) iter.Seq2[events.State, error] {
	return func(yield func(events.State, error) bool) {
		if err := v.enter(); err != nil {
			yield(events.State{}, err)
			return
		}
		defer v.gate.leave()
		list := v.listNow
		if v.past {
			list = v.listPast
		}
		if err := list(sel, from, func(r row) bool { return yield(r.State, nil) }); err != nil {
			yield(events.State{}, fmt.Errorf("projection in %s: listing %s: %w", v.s.dir, sel.Resource, err))
		}
	}
}

// Count is how many live objects the selector picks.
func (v *View) Count(sel Selector) (int, error) {
	n := 0
	for _, err := range v.List(sel, "") {
		if err != nil {
			return 0, err
		}
		n++
	}
	return n, nil
}

func (v *View) listNow(sel Selector, from string, yield func(row) bool) (err error) {
	it, err := v.snap.NewIter(sel.bounds(spaceLive, from))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for ok := it.First(); ok; ok = it.Next() {
		k, _, err := cutKey(it.Key()[1:])
		if err != nil {
			return err
		}
		if !sel.Matches(k) {
			continue
		}
		r, err := decodeRow(k, it.Value())
		if err != nil {
			return fmt.Errorf("%s: %w", k, err)
		}
		if !yield(r) {
			return nil
		}
	}
	return it.Error()
}

// listPast walks the living and the dead side by side and takes, of each, what it was at the view's sequence.
func (v *View) listPast(sel Selector, from string, yield func(row) bool) (err error) {
	var its [3]*pebble.Iterator
	defer func() {
		for _, it := range its {
			if it != nil {
				err = errors.Join(err, it.Close())
			}
		}
	}()
	for i, space := range []byte{spaceLive, spaceDead, spaceHistory} {
		if its[i], err = v.snap.NewIter(sel.bounds(space, from)); err != nil {
			return err
		}
	}
	live, dead, versions := its[0], its[1], its[2]
	live.First()
	dead.First()
	for live.Valid() || dead.Valid() {
		next := live
		if !live.Valid() || (dead.Valid() && bytes.Compare(dead.Key()[1:], live.Key()[1:]) < 0) {
			next = dead
		}
		r, ok, err := v.pastRow(sel, next, versions)
		if err != nil {
			return err
		}
		if ok && !yield(r) {
			return nil
		}
		next.Next()
	}
	return errors.Join(live.Error(), dead.Error(), versions.Error())
}

// pastRow is what the object of a present row was at the view's sequence; false where it did not exist.
func (v *View) pastRow(sel Selector, present, versions *pebble.Iterator) (row, bool, error) {
	newest, err := newestOf(present.Value())
	if err != nil {
		return row{}, false, err
	}
	isDead := present.Key()[0] == spaceDead
	if isDead && newest <= v.at {
		return row{}, false, nil
	}
	k, _, err := cutKey(present.Key()[1:])
	if err != nil || !sel.Matches(k) {
		return row{}, false, err
	}
	value := present.Value()
	if newest > v.at {
		prefix := objectRow(spaceHistory, k)
		if !versions.SeekGE(appendVersion(prefix[:len(prefix):len(prefix)], v.at)) || !bytes.HasPrefix(versions.Key(), prefix) {
			return row{}, false, versions.Error()
		}
		value = versions.Value()
	}
	r, err := decodeRow(k, value)
	if err != nil {
		return row{}, false, fmt.Errorf("%s: %w", k, err)
	}
	if !r.Exists() {
		return row{}, false, nil
	}
	err = v.s.fill(v.snap, &r)
	return r, true, err
}

// ByNode yields the live objects bound to a node, of all resources, in the order of their keys. Views of
// the past return ErrTooOld.
func (v *View) ByNode(node string) iter.Seq2[events.State, error] { return v.by(spaceNode, node) }

// ByOwner yields the live objects that name an owner's uid in metadata.ownerReferences, of all resources, in
// the order of their keys. Views of the past return ErrTooOld.
func (v *View) ByOwner(uid string) iter.Seq2[events.State, error] { return v.by(spaceOwner, uid) }

func (v *View) by(space byte, term string) iter.Seq2[events.State, error] {
	return func(yield func(events.State, error) bool) {
		if err := v.enter(); err != nil {
			yield(events.State{}, err)
			return
		}
		defer v.gate.leave()
		if v.past {
			yield(events.State{}, fmt.Errorf("projection in %s: indexes know only the present: %w", v.s.dir, ErrTooOld))
			return
		}
		if err := v.indexed(space, term, yield); err != nil {
			yield(events.State{}, fmt.Errorf("projection in %s: index %c of %q: %w", v.s.dir, space, term, err))
		}
	}
}

func (v *View) indexed(space byte, term string, yield func(events.State, error) bool) (err error) {
	prefix := appendToken([]byte{space}, term)
	it, err := v.snap.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: after(prefix)})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for ok := it.First(); ok; ok = it.Next() {
		k, _, err := cutKey(it.Key()[len(prefix):])
		if err != nil {
			return err
		}
		r, err := v.s.present(v.snap, k)
		if err != nil {
			return fmt.Errorf("%s: %w", k, err)
		}
		if !yield(r.State, nil) {
			return nil
		}
	}
	return it.Error()
}
