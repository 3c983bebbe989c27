package narrator

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/orlog-io/orlog/events"
)

// creation is a pod that a ReplicaSet's controller has made.
func creation(seq events.Sequence, at time.Time, owner, name string) events.Event {
	o := map[string]any{"metadata": map[string]any{"ownerReferences": []any{
		map[string]any{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": owner, "uid": owner, "controller": true}}}}
	b, err := json.Marshal(o)
	if err != nil {
		panic(err)
	}
	return events.Event{Sequence: seq, Stored: at, Time: at, Type: "io.orlog.pod.created", Source: "test", Actor: replicaSets.as.User, UID: name, Object: b,
		Subject: events.Subject{Class: events.Desired, Key: events.Key{Resource: "pods", Namespace: "default", Name: name}}}
}

// failure is a pod that the scheduler finds no node for.
func failure(seq events.Sequence, at time.Time, name, why string) events.Event {
	b, err := json.Marshal(map[string]any{"status": map[string]any{"conditions": []any{
		map[string]any{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": why}}}})
	if err != nil {
		panic(err)
	}
	return events.Event{Sequence: seq, Stored: at, Time: at, Type: "io.orlog.pod.unschedulable", Source: "test", Actor: scheduler, UID: name, Object: b,
		Subject: events.Subject{Class: events.Observed, Key: events.Key{Resource: "pods", Namespace: "default", Name: name}}}
}

var began = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// api holds what a memory writes.
type api map[string]*corev1.Event

func (a api) tell(t *testing.T, m *memory, e events.Event) (writes int) {
	t.Helper()
	told, err := Narrate(e)
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range told {
		next, fresh := m.note(one.Event)
		if next == nil {
			continue
		}
		if _, there := a[next.Name]; there == fresh {
			t.Fatalf("%s is there: %t, but is to be created: %t", next.Name, there, fresh)
		}
		a[next.Name] = next.DeepCopy()
		writes++
	}
	return writes
}

func (a api) living() (out []*corev1.Event) {
	for _, e := range a {
		out = append(out, e)
	}
	return out
}

func TestManyAlikeAreCombinedAndFloodsDropped(t *testing.T) {
	m, a := newMemory(), api{}
	writes := 0
	for i := range 100 {
		writes += a.tell(t, m, creation(events.Sequence(1+i), began, "web", fmt.Sprintf("web-%d", i)))
	}
	if len(a) != alike+1 || writes != burst {
		t.Errorf("%d Events in %d writes, want %d in %d", len(a), writes, alike+1, burst)
	}
	if c := a["web.a"]; c.Count != burst-alike || c.Message != combinedPrefix+"Created pod: web-24" || sequenceOf(c) != 25 {
		t.Errorf("combined: %s", c)
	}
	if a.tell(t, m, creation(200, began, "api", "api-1")) != 1 {
		t.Error("a flood about one object has silenced another")
	}
	if a.tell(t, m, creation(201, began.Add(refill), "web", "web-x")) != 1 {
		t.Error("silent although time has passed")
	}
}

func TestRepetitionIsCountedAsLongAsTheEventLives(t *testing.T) {
	m, a := newMemory(), api{}
	at := began
	for i := range 3 {
		a.tell(t, m, failure(events.Sequence(10+i), at, "p", "0/1 nodes"))
		at = at.Add(chapterFor)
	}
	e := a["p.a"]
	if len(a) != 1 || e.Count != 3 || !e.FirstTimestamp.Time.Equal(began) || !e.LastTimestamp.Time.Equal(began.Add(2*chapterFor)) {
		t.Fatalf("%d Events, %v", len(a), e)
	}
	a.tell(t, m, failure(20, at.Add(time.Minute), "p", "0/1 nodes"))
	if len(a) != 2 || a["p.14"].Count != 1 {
		t.Error("an Event that has expired was counted on")
	}
}

// TestRecallTellsNothingTwice tells random histories, forgetting everything at random places and going back
// to where the living Events say: none is told twice, and none that was not over the limits is left out.
func TestRecallTellsNothingTwice(t *testing.T) {
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, 1))
		var log []events.Event
		at := began
		for i := range 60 {
			at = at.Add(time.Duration(r.IntN(20)) * time.Second)
			seq := events.Sequence(i + 1)
			if name := fmt.Sprintf("p%d", r.IntN(2)); r.IntN(2) == 0 {
				log = append(log, creation(seq, at, name, fmt.Sprintf("%s-%d", name, i)))
			} else {
				log = append(log, failure(seq, at, name, fmt.Sprintf("0/%d nodes", r.IntN(3))))
			}
		}
		want, steady := api{}, newMemory()
		for _, e := range log {
			want.tell(t, steady, e)
		}
		got, m := api{}, newMemory()
		for i := 0; i < len(log); i++ {
			got.tell(t, m, log[i])
			if r.IntN(8) == 0 {
				m = newMemory()
				if last := m.recall(got.living()); last > 0 {
					i = int(last) - 2 // the newest one told comes again
				}
			}
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("seed %d: with restarts %v, without %v", seed, got, want)
		}
	}
}

func TestOthersEventsAreNotRecalled(t *testing.T) {
	m := newMemory()
	if last := m.recall([]*corev1.Event{{Message: "Pulled"}}); last != 0 {
		t.Errorf("recalled up to %d", last)
	}
}
