package projections

import (
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"reflect"
	"slices"
	"testing"

	"github.com/orlog-io/orlog/events"
)

// open opens a store that ends with the test.
func open(t testing.TB, dir string, o Options) *Store {
	t.Helper()
	s, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// apply folds events in batches of uneven size.
func apply(t testing.TB, s *Store, all []events.Event) {
	t.Helper()
	for n := 1; len(all) > 0; n = n%7 + 1 {
		n = min(n, len(all))
		if err := s.Apply(all[:n]); err != nil {
			t.Fatal(err)
		}
		all = all[n:]
	}
}

func collect[T any](t testing.TB, seq iter.Seq2[T, error]) []T {
	t.Helper()
	var out []T
	for v, err := range seq {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, v)
	}
	return out
}

func diffJSON(want, got any) string {
	a, errA := json.MarshalIndent(want, "", " ")
	b, errB := json.MarshalIndent(got, "", " ")
	return fmt.Sprintf("want %s\n got %s %v", a, b, errors.Join(errA, errB))
}

func mustEqual(t testing.TB, what string, want, got any) {
	t.Helper()
	if !reflect.DeepEqual(want, got) {
		t.Fatalf("%s:\n%s", what, diffJSON(want, got))
	}
}

var testSelectors = []Selector{
	{},
	{Resource: "pods"},
	{Resource: "pods", Namespace: "default"},
	{Resource: "pods", Namespace: "default", Name: "a"},
	{Resource: "podsx", Name: "ab"},
	{Group: "apps", Resource: "deployments"},
	{Group: "apps", Resource: "deployments", Namespace: "kube-system"},
	{Resource: "none"},
	{Namespace: "default-2"},
}

func TestStoreAgreesWithModel(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint("seed", seed), func(t *testing.T) {
			t.Parallel()
			m := model{newHistory(seed).events(120)}
			s := open(t, "store", Options{History: true, InMemory: true})
			apply(t, s, m.log)
			for seq := range events.Sequence(len(m.log) + 1) {
				checkView(t, s, m, seq)
			}
			checkTimeline(t, s, m)
		})
	}
}

func checkView(t *testing.T, s *Store, m model, seq events.Sequence) {
	t.Helper()
	v, err := s.At(seq)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	mustEqual(t, "sequence", seq, v.Sequence())
	want := m.states(seq)
	for k := range m.states(events.Sequence(len(m.log))) {
		st, err := v.Cursor(k)
		if err != nil {
			t.Fatal(err)
		}
		expect, known := want[k]
		if !known {
			expect = events.State{Key: k}
		}
		mustEqual(t, fmt.Sprintf("cursor of %s at %d", k, seq), expect, st)
		if _, ok, err := v.Get(k); err != nil || ok != expect.Exists() {
			t.Fatalf("get %s at %d: %v %v", k, seq, ok, err)
		}
	}
	for _, sel := range testSelectors {
		mustEqual(t, fmt.Sprintf("list %+v at %d", sel, seq), m.list(seq, sel), collect(t, v.List(sel, "")))
	}
	checkFrom(t, v, m)
	checkIndexes(t, v, m, s.Position())
}

func checkFrom(t *testing.T, v *View, m model) {
	t.Helper()
	sel := Selector{Resource: "pods"}
	for _, from := range []events.Key{{Name: "a\x00b"}, {Namespace: "default", Name: "a.b"}, {Namespace: "default-1", Name: "q"}, {Namespace: "zz", Name: "a"}} {
		text := from.Name
		if from.Namespace != "" {
			text = from.Namespace + "/" + from.Name
		}
		from.Resource = "pods"
		want := slices.DeleteFunc(m.list(v.Sequence(), sel), func(st events.State) bool { return compareKeys(st.Key, from) < 0 })
		mustEqual(t, "list from "+text, len(want), len(collect(t, v.List(sel, text))))
		for i, st := range collect(t, v.List(sel, text)) {
			mustEqual(t, "list from "+text, want[i], st)
		}
	}
}

func checkIndexes(t *testing.T, v *View, m model, position events.Sequence) {
	t.Helper()
	if v.Sequence() < position {
		for _, err := range v.ByNode("node-1") {
			if !errors.Is(err, ErrTooOld) {
				t.Fatalf("ByNode in the past: %v", err)
			}
		}
		return
	}
	for i := range 3 {
		node, owner := fmt.Sprint("node-", i), fmt.Sprint("owner-", i)
		var onNode, owned []events.State
		for _, st := range m.list(v.Sequence(), Selector{}) {
			if st.Node == node {
				onNode = append(onNode, st)
			}
			if slices.Contains(ownersOf(st), owner) {
				owned = append(owned, st)
			}
		}
		mustEqual(t, node, onNode, collect(t, v.ByNode(node)))
		mustEqual(t, owner, owned, collect(t, v.ByOwner(owner)))
	}
}

// checkTimeline checks that the events read back fold to the same states, and are otherwise the same.
func checkTimeline(t *testing.T, s *Store, m model) {
	t.Helper()
	byKey := map[events.Key][]events.Event{}
	for _, e := range m.log {
		byKey[e.Subject.Key] = append(byKey[e.Subject.Key], e)
		got, ok, err := s.EventAt(e.Sequence)
		if err != nil || !ok {
			t.Fatalf("event %d: %v %v", e.Sequence, ok, err)
		}
		got.Object, e.Object = nil, nil
		mustEqual(t, "event", e, got)
	}
	for k, want := range byKey {
		got := collect(t, s.Timeline(k, 0, 0))
		mustEqual(t, "timeline length", len(want), len(got))
		a, b := events.State{Key: k}, events.State{Key: k}
		for i := range want {
			a, _ = events.Fold(a, want[i])
			b, _ = events.Fold(b, got[i])
			mustEqual(t, fmt.Sprintf("fold of the timeline's event %d", want[i].Sequence), a, b)
		}
		part := collect(t, s.Timeline(k, want[0].Sequence+1, want[len(want)-1].Sequence-1))
		mustEqual(t, "part of a timeline", max(0, len(want)-2), len(part))
	}
	if _, ok, err := s.EventAt(s.Position() + 1); ok || err != nil {
		t.Fatalf("an event after the last: %v %v", ok, err)
	}
}
