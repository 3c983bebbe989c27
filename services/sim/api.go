package sim

import (
	"errors"
	"fmt"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/services/loop"
)

// Outcomes of requests, beside the kinds of error in package events.
var (
	errNotFound    = errors.New("not found")
	errTerminating = errors.New("namespace is being deleted")
)

// api plays the gateway: it turns requests into events as services/gateway/storage does, under the same
// guards, deciding on a projection of its own that lags behind the log.
type api struct {
	w *world
	// at is how much of the log the gateway's projection holds.
	at   events.Sequence
	made int
}

// request is one write.
type request struct {
	loop.Effect
	actor string
	cause events.Cause
	// change makes the new object out of the present one, for people who patch; nil elsewhere.
	change func(object)
}

// write is what a request comes to: an event to append, or nothing to do.
type write struct {
	class  events.Class
	verb   events.Verb
	object object
	// withStatus: a desired event that carries status.
	withStatus bool
	// whole: guarded by the newest event of either class.
	whole bool
	uid   string
	node  string
}

// recordOf is the log that a key's events are on.
func (a *api) recordOf(key events.Key) *record {
	if loop.Leases.Is(key) {
		return a.w.heartbeats
	}
	return a.w.record
}

// state is an object as the gateway's projection holds it.
func (a *api) state(key events.Key, fresh bool) events.State {
	r := a.recordOf(key)
	if fresh || r != a.w.record {
		a.at = a.w.record.last()
		return r.now(key)
	}
	if lag := int(a.w.record.last() - a.at); lag > 0 {
		a.at += events.Sequence(a.w.rng.IntN(lag + 1))
	}
	return r.at(key, a.at)
}

// perform carries out a request; the sequence is 0 where nothing was written. As in the gateway, a refusal
// or a guard that fails is looked at again on fresh state.
func (a *api) perform(r request) (events.Sequence, error) {
	cur, fresh := a.state(r.Key, false), false
	for range 10 {
		out, err := a.decide(r, cur)
		if !fresh && (err != nil || out == nil) {
			cur, fresh = a.state(r.Key, true), true
			continue
		}
		if err != nil {
			return 0, err
		}
		if out == nil {
			return cur.Revision, nil
		}
		seq, err := a.append(r, cur, out)
		if !errors.Is(err, events.ErrConflict) {
			return seq, err
		}
		cur, fresh = a.state(r.Key, true), true
	}
	a.w.fail(Sound, "the gateway cannot write %s: its guard fails on fresh state", r.Key)
	return 0, events.ErrConflict
}

// attempts is how often the gateway repeats an append whose outcome is unknown.
const attempts = 6

func (a *api) append(r request, cur events.State, out *write) (events.Sequence, error) {
	a.made++
	subject := events.Subject{Class: out.class, Key: r.Key, Node: out.node}
	guard := events.ExpectClass(subject, cur.Desired)
	if out.whole {
		guard = events.ExpectObject(subject, cur.Newest())
	}
	e := events.Event{ID: fmt.Sprintf("gateway-%d", a.made), Subject: subject, Type: events.TypeOf(kindOf(r.Key), out.verb), Source: "gateway",
		Actor: r.actor, Time: a.w.clock.now, Cause: r.cause.Sequence, Correlation: r.cause.Correlation, Reason: r.Reason, UID: out.uid}
	switch {
	case out.class == events.Observed:
		e.Object = encode(object{"metadata": object{"uid": out.uid}, "status": out.object["status"]})
	case out.withStatus:
		e.Object = encode(out.object)
	default:
		e.Object = encode(out.object.without("status"))
	}
	var err error
	for range attempts {
		var seqs []events.Sequence
		if seqs, err = a.w.append(a.recordOf(r.Key), events.Entry{Event: e, Expect: guard}); err == nil {
			if a.recordOf(r.Key) == a.w.record {
				a.at = max(a.at, seqs[0])
			}
			return seqs[0], nil
		}
		if !errors.Is(err, events.ErrUnavailable) {
			break
		}
	}
	return 0, err
}

// decide makes a request's write on a state, as pure as the gateway's handlers: nil where nothing changes.
func (a *api) decide(r request, cur events.State) (*write, error) {
	if r.Verb == loop.Create {
		return a.create(r, cur)
	}
	if !cur.Exists() {
		return nil, fmt.Errorf("%s: %w", r.Key, errNotFound)
	}
	was := parse(cur.Object)
	switch r.Verb {
	case loop.Update:
		is := a.body(r, was)
		is.keep(was, "status")
		return a.update(r.Key, cur, was, is)
	case loop.UpdateStatus:
		is := a.body(r, was)
		next := was.clone()
		next.set("status", is["status"])
		if annotations, given := is.meta()["annotations"]; given {
			next.meta()["annotations"] = annotations
		}
		if err := sameVersion(r.Key, cur, is); err != nil {
			return nil, err
		}
		return a.update(r.Key, cur, was, next)
	case loop.Finalize:
		is := a.body(r, was)
		next := was.clone()
		next.sub("spec").set("finalizers", is.spec()["finalizers"])
		if err := sameVersion(r.Key, cur, is); err != nil {
			return nil, err
		}
		return a.update(r.Key, cur, was, next)
	case loop.Patch:
		is, err := patched(r.Effect, was)
		if err != nil {
			return nil, err
		}
		is.keep(was, "status")
		return a.update(r.Key, cur, was, is)
	case loop.Delete:
		return a.delete(r.Effect, cur, was)
	}
	return nil, fmt.Errorf("the gateway knows no verb %q: %w", r.Verb, events.ErrInvalid)
}

// body is the object that a request carries, or makes out of the present one.
func (a *api) body(r request, was object) object {
	if r.change != nil {
		is := was.clone()
		r.change(is)
		return is
	}
	return parse(encode(r.Object))
}

// sameVersion refuses an object of another life, or one read at another revision.
func sameVersion(key events.Key, cur events.State, is object) error {
	if uid := is.meta().text("uid"); uid != "" && uid != cur.UID {
		return fmt.Errorf("%s has another uid: %w", key, events.ErrConflict)
	}
	if rv := is.meta().text("resourceVersion"); rv != "" && rv != cur.Revision.String() {
		return fmt.Errorf("%s is at revision %d, not %s: %w", key, cur.Revision, rv, events.ErrConflict)
	}
	return nil
}

// update writes what differs between two states of an object.
func (a *api) update(key events.Key, cur events.State, was, is object) (*write, error) {
	if err := sameVersion(key, cur, is); err != nil {
		return nil, err
	}
	meta := is.meta()
	delete(meta, "resourceVersion")
	for _, field := range []string{"uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation"} {
		keep(meta, was.meta(), field)
	}
	if !same(was["spec"], is["spec"]) && was.meta()["generation"] != nil {
		meta["generation"] = was.meta().number("generation") + 1
	}
	if mayGo(is) && was.meta()["deletionTimestamp"] != nil {
		return deletion(cur, was), nil
	}
	status, rest := !same(was["status"], is["status"]), !same(was.without("status"), is.without("status"))
	if !status && !rest {
		return nil, nil
	}
	out := &write{class: events.Desired, verb: verbOf(key, was, is), object: is, withStatus: status, whole: status, uid: cur.UID, node: nodeOf(key, is)}
	if !rest {
		out.class, out.verb = events.Observed, "status-changed"
	}
	return out, nil
}

// mayGo says whether nothing keeps an object that is being deleted.
func mayGo(is object) bool {
	meta := is.meta()
	if meta["deletionTimestamp"] == nil || len(meta.list("finalizers")) > 0 || len(is.spec().list("finalizers")) > 0 {
		return false
	}
	return meta.number("deletionGracePeriodSeconds") == 0
}

func deletion(cur events.State, was object) *write {
	return &write{class: events.Desired, verb: events.Deleted, object: was, withStatus: true, whole: true, uid: cur.UID, node: cur.Node}
}

// outcome sorts the API's answers as loop.REST does; a lost answer is one that the caller never got.
func outcome(verb loop.Verb, err error) error {
	switch {
	case errors.Is(err, errNotFound) && verb != loop.Create, errors.Is(err, errTerminating):
		return nil
	}
	return err
}
