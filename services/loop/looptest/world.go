package looptest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strings"
	"sync"
	"testing"
	"time"

	jsonpatch "github.com/evanphx/json-patch/v5"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/client-go/kubernetes/scheme"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/events/memlog"
	"github.com/orlog-io/orlog/projections"
	"github.com/orlog-io/orlog/services/loop"
)

// Start is when a World begins.
var Start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// World is a log, its projection and a performer of effects. Its methods may be called at once.
type World struct {
	Log   events.Log
	Store *projections.Store

	t   testing.TB
	mu  sync.Mutex
	now time.Time
	n   int
}

// NewWorld makes an empty world that ends with the test.
func NewWorld(t testing.TB) *World {
	t.Helper()
	s, err := projections.Open(t.TempDir(), projections.Options{InMemory: true})
	if err != nil {
		t.Fatal(err)
	}
	log := memlog.New()
	t.Cleanup(func() {
		if err := errors.Join(s.Close(), log.Close()); err != nil {
			t.Error(err)
		}
	})
	return &World{Log: log, Store: s, t: t, now: Start}
}

// Now is the world's clock.
func (w *World) Now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

// Advance moves the clock.
func (w *World) Advance(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

// View is the world as it is, for a decision caused by the newest event.
func (w *World) View() *loop.View {
	v := w.Store.Now()
	w.t.Cleanup(v.Close)
	r := loop.ReaderOf(v)
	return loop.NewView(r, leases{r}, nil, events.Cause{Sequence: w.Store.Position(), Correlation: 1})
}

// leases is the part of a world that would be in the volatile log.
type leases struct{ loop.Reader }

func (l leases) All(namespace string) iter.Seq2[events.State, error] {
	return only(l.Reader.All(namespace))
}

func (l leases) ByOwner(uid string) iter.Seq2[events.State, error] {
	return only(l.Reader.ByOwner(uid))
}

func only(in iter.Seq2[events.State, error]) iter.Seq2[events.State, error] {
	return func(yield func(events.State, error) bool) {
		for s, err := range in {
			if (err != nil || loop.Leases.Is(s.Key)) && !yield(s, err) {
				return
			}
		}
	}
}

// Decide asks a decider about a key and performs what it decides; it returns the decision.
func (w *World) Decide(d loop.Decider, key events.Key) loop.Decision {
	w.t.Helper()
	v := w.View()
	out := d.Decide(v, key, w.Now())
	if v.Err() != nil {
		w.t.Fatalf("deciding about %s: %v", key, v.Err())
	}
	for _, e := range out.Effects() {
		if _, err := w.Perform(context.Background(), e, v.Cause); err != nil {
			w.t.Fatalf("%s %s: %v", e.Verb, e.Key, err)
		}
	}
	return out
}

// Put creates or replaces an object, as a person would: any object that JSON can hold.
func (w *World) Put(key events.Key, object any) {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	o := w.fields(object)
	old := w.state(key)
	meta := metaOf(o)
	if old.Exists() {
		meta["uid"] = old.UID
	}
	if _, err := w.write(key, o, old, "put"); err != nil {
		w.t.Fatalf("putting %s: %v", key, err)
	}
}

// Report replaces an object's status.
func (w *World) Report(key events.Key, status any) {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	old := w.state(key)
	if _, err := w.report(key, old, status); err != nil {
		w.t.Fatalf("reporting on %s: %v", key, err)
	}
}

// Remove ends an object at once.
func (w *World) Remove(key events.Key) {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, err := w.remove(key, w.state(key)); err != nil {
		w.t.Fatalf("removing %s: %v", key, err)
	}
}

// Perform carries out an effect as the gateway would.
func (w *World) Perform(_ context.Context, e loop.Effect, _ events.Cause) (events.Sequence, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	old := w.state(e.Key)
	if e.Verb == loop.AppendEvent {
		return w.append(*e.Entry)
	}
	if e.Verb == loop.Create {
		if old.Exists() {
			return 0, fmt.Errorf("%s exists: %w", e.Key, events.ErrConflict)
		}
		return w.write(e.Key, w.fields(e.Object), old, "created")
	}
	if !old.Exists() {
		return 0, nil
	}
	switch e.Verb {
	case loop.Update, loop.UpdateStatus, loop.Finalize:
		o := w.fields(e.Object)
		if rv, _ := metaOf(o)["resourceVersion"].(string); rv != "" && rv != old.Revision.String() {
			return 0, fmt.Errorf("%s is at %d, not %s: %w", e.Key, old.Revision, rv, events.ErrConflict)
		}
		return w.update(e, o, old)
	case loop.Patch:
		return w.patch(e, old)
	case loop.Delete:
		return w.delete(e, old)
	}
	return 0, fmt.Errorf("effect %q: %w", e.Verb, events.ErrInvalid)
}

func (w *World) update(e loop.Effect, o map[string]any, old events.State) (events.Sequence, error) {
	was := w.fields(old.Object)
	if e.Verb == loop.UpdateStatus {
		if a, ok := metaOf(o)["annotations"]; ok {
			metaOf(was)["annotations"] = a
		}
		was["status"] = o["status"]
		return w.write(e.Key, was, old, "status")
	}
	o["status"] = was["status"]
	return w.write(e.Key, o, old, "updated")
}

func (w *World) patch(e loop.Effect, old events.State) (events.Sequence, error) {
	patched, err := applyPatch(e, old)
	if err != nil {
		return 0, err
	}
	o := w.fields(patched)
	if metaOf(o)["uid"] != old.UID {
		return 0, fmt.Errorf("%s has another uid: %w", e.Key, events.ErrConflict)
	}
	return w.write(e.Key, o, old, "patched")
}

func applyPatch(e loop.Effect, old events.State) ([]byte, error) {
	switch e.PatchType {
	case types.StrategicMergePatchType:
		kind, err := kindOf(e)
		if err != nil {
			return nil, err
		}
		return strategicpatch.StrategicMergePatch(old.Object, e.Patch, kind)
	case types.MergePatchType:
		return jsonpatch.MergePatch(old.Object, e.Patch)
	case types.JSONPatchType:
		p, err := jsonpatch.DecodePatch(e.Patch)
		if err != nil {
			return nil, err
		}
		return p.Apply(old.Object)
	}
	return nil, fmt.Errorf("patch type %q: %w", e.PatchType, events.ErrInvalid)
}

func kindOf(e loop.Effect) (any, error) {
	for gvk := range scheme.Scheme.AllKnownTypes() {
		if gvk.GroupVersion() == e.Resource.GroupVersion() && strings.ToLower(gvk.Kind)+"s" == e.Resource.Resource {
			return scheme.Scheme.New(gvk)
		}
	}
	return nil, fmt.Errorf("no kind for %s: %w", e.Resource, events.ErrInvalid)
}

// delete removes an object, or marks it where it has finalizers or is a pod on a node.
func (w *World) delete(e loop.Effect, old events.State) (events.Sequence, error) {
	if e.UID != "" && string(e.UID) != old.UID {
		return 0, fmt.Errorf("%s has another uid: %w", e.Key, events.ErrConflict)
	}
	if e.ResourceVersion != "" && e.ResourceVersion != old.Revision.String() {
		return 0, fmt.Errorf("%s is at %d: %w", e.Key, old.Revision, events.ErrConflict)
	}
	o := w.fields(old.Object)
	meta := metaOf(o)
	spec, _ := o["spec"].(map[string]any)
	graceful := e.Key.Resource == "pods" && spec["nodeName"] != nil && (e.GracePeriod == nil || *e.GracePeriod > 0)
	finalizers, _ := meta["finalizers"].([]any)
	switch e.Propagation {
	case metav1.DeletePropagationForeground:
		finalizers = append(finalizers, metav1.FinalizerDeleteDependents)
	case metav1.DeletePropagationOrphan:
		finalizers = append(finalizers, metav1.FinalizerOrphanDependents)
	}
	if !graceful && len(finalizers) == 0 {
		return w.remove(e.Key, old)
	}
	if meta["deletionTimestamp"] != nil {
		return 0, nil
	}
	meta["deletionTimestamp"] = w.now.Format(time.RFC3339)
	if len(finalizers) > 0 {
		meta["finalizers"] = finalizers
	}
	return w.write(e.Key, o, old, "deleting")
}

func (w *World) remove(key events.Key, old events.State) (events.Sequence, error) {
	return w.append(events.Entry{Event: w.event(key, events.Desired, "deleted", old.UID, old.Object)})
}

func (w *World) report(key events.Key, old events.State, status any) (events.Sequence, error) {
	b, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": old.UID}, "status": status})
	if err != nil {
		return 0, err
	}
	return w.append(events.Entry{Event: w.event(key, events.Observed, "reported", old.UID, b)})
}

// write gives an object what every API server gives it, and appends it.
func (w *World) write(key events.Key, o map[string]any, old events.State, verb events.Verb) (events.Sequence, error) {
	meta := metaOf(o)
	delete(meta, "resourceVersion")
	meta["name"] = key.Name
	if key.Namespace != "" {
		meta["namespace"] = key.Namespace
	}
	generation := float64(1)
	if old.Exists() {
		was := w.fields(old.Object)
		g, _ := metaOf(was)["generation"].(float64)
		generation = max(g, 1)
		if verb != "status" && !jsonEqual(was["spec"], o["spec"]) {
			generation++
		}
	} else {
		w.n++
		if meta["uid"] == nil {
			meta["uid"] = fmt.Sprintf("uid-%d", w.n)
		}
		if meta["creationTimestamp"] == nil {
			meta["creationTimestamp"] = w.now.Format(time.RFC3339)
		}
	}
	meta["generation"] = generation
	if finalizers, _ := meta["finalizers"].([]any); verb != "put" && meta["deletionTimestamp"] != nil && len(finalizers) == 0 && key.Resource != "pods" {
		return w.remove(key, old)
	}
	b, err := json.Marshal(o)
	if err != nil {
		return 0, err
	}
	if old.Exists() && jsonEqual(w.fields(old.Object), o) {
		return old.Revision, nil
	}
	e := w.event(key, events.Desired, verb, meta["uid"].(string), b)
	if spec, ok := o["spec"].(map[string]any); ok && key.Resource == "pods" {
		e.Subject.Node, _ = spec["nodeName"].(string)
	}
	return w.append(events.Entry{Event: e})
}

func (w *World) event(key events.Key, class events.Class, verb events.Verb, uid string, object []byte) events.Event {
	return events.Event{Subject: events.Subject{Class: class, Key: key}, Type: events.TypeOf("object", verb),
		Source: "world", Actor: "world", UID: uid, Object: object, Time: w.now}
}

// append writes to the log and folds what it now holds.
func (w *World) append(entry events.Entry) (events.Sequence, error) {
	if entry.Event.Time.IsZero() {
		entry.Event.Time, entry.Event.Source, entry.Event.Actor = w.now, "world", "world"
	}
	seqs, err := w.Log.Append(context.Background(), entry)
	if err != nil {
		return 0, err
	}
	e, err := w.Log.Get(context.Background(), seqs[0])
	if err != nil {
		return 0, err
	}
	return seqs[0], w.Store.Apply([]events.Event{e})
}

func (w *World) state(key events.Key) events.State {
	v := w.Store.Now()
	defer v.Close()
	s, err := v.Cursor(key)
	if err != nil {
		w.t.Fatalf("reading %s: %v", key, err)
	}
	return s
}

func (w *World) fields(o any) map[string]any {
	b, raw := o.(json.RawMessage)
	if !raw {
		if b, raw = o.([]byte); !raw {
			var err error
			if b, err = json.Marshal(o); err != nil {
				w.t.Fatalf("marshalling %T: %v", o, err)
			}
		}
	}
	var out map[string]any
	if err := json.Unmarshal(b, &out); err != nil {
		w.t.Fatalf("reading %T: %v", o, err)
	}
	return out
}

func metaOf(o map[string]any) map[string]any {
	m, _ := o["metadata"].(map[string]any)
	if m == nil {
		m = map[string]any{}
		o["metadata"] = m
	}
	return m
}

func jsonEqual(a, b any) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && string(x) == string(y)
}
