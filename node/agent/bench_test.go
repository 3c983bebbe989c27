package agent

import (
	"context"
	"encoding/json"
	"sync"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/events/memlog"
	"github.com/orlog-io/orlog/node/agent/ladder"
	"github.com/orlog-io/orlog/projections"
)

// bench is one node: a log, a world, and an agent that can be stopped and started.
type bench struct {
	*testing.T
	log   *memlog.Log
	world *world
	store *projections.Store
	dir   string
	agent *Agent
	edit  func(*Options)
	trace string // of the events that want appends
	stop  func()
	done  <-chan struct{}
}

func newBench(t *testing.T) *bench { return newBenchWith(t, func(*Options) {}) }

func newBenchWith(t *testing.T, edit func(*Options)) *bench {
	b := &bench{T: t, log: memlog.New(), world: newWorld(), dir: t.TempDir(), edit: edit}
	t.Cleanup(func() { b.log.Close() })
	b.start()
	t.Cleanup(func() { b.stop() })
	return b
}

func (b *bench) start() {
	b.Helper()
	store, err := projections.Open(b.dir+"/projection", projections.Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.store = store
	o := Options{NodeName: "n1", DataDir: b.dir, Log: b.log, Store: store, Runtime: b.world, Images: b.world, Network: b.world, NodeIPs: []string{"192.0.2.10"},
		Exec: func(context.Context, string, string, []string) (int, string, error) { return 0, "", nil }}
	b.edit(&o)
	b.agent, err = New(o)
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	b.world.dies = cancel
	done := make(chan error, 1)
	go func() { done <- b.agent.Run(ctx) }()
	b.done = ctx.Done()
	b.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			b.Error(err)
		}
		if err := store.Close(); err != nil {
			b.Error(err)
		}
	})
}

func pod(name string, edit func(*v1.Pod)) *v1.Pod {
	grace := int64(30)
	p := &v1.Pod{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default", UID: types.UID("uid-" + name)},
		Spec: v1.PodSpec{NodeName: "n1", RestartPolicy: v1.RestartPolicyAlways, TerminationGracePeriodSeconds: &grace,
			Containers: []v1.Container{{Name: "main", Image: "app:1"}}},
		Status: v1.PodStatus{Phase: v1.PodPending, QOSClass: v1.PodQOSBestEffort}}
	if edit != nil {
		edit(p)
	}
	return p
}

// want appends a desired event about a pod.
func (b *bench) want(p *v1.Pod, verb string) events.Sequence {
	b.Helper()
	raw, err := json.Marshal(p)
	if err != nil {
		b.Fatal(err)
	}
	if verb != "bound" { // a write that is not about the status does not speak of it
		var m map[string]json.RawMessage
		if err := json.Unmarshal(raw, &m); err != nil {
			b.Fatal(err)
		}
		delete(m, "status")
		if raw, err = json.Marshal(m); err != nil {
			b.Fatal(err)
		}
	}
	seqs, err := b.log.Append(context.Background(), events.Entry{Event: events.Event{Subject: events.Subject{Class: events.Desired, Key: keyOf(p), Node: p.Spec.NodeName},
		Type: "io.orlog.pod." + verb, Source: "test", Actor: "test", Time: time.Now(), UID: string(p.UID), TraceParent: b.trace, Object: raw}})
	if err != nil {
		b.Fatal(err)
	}
	return seqs[0]
}

func keyOf(p *v1.Pod) events.Key {
	return events.Key{Resource: "pods", Namespace: p.Namespace, Name: p.Name}
}

// reports returns the observed events about a pod so far.
func (b *bench) reports(p *v1.Pod) []events.Event {
	b.Helper()
	last, err := b.log.Last(context.Background())
	if err != nil {
		b.Fatal(err)
	}
	var out []events.Event
	for seq := events.Sequence(1); seq <= last; seq++ {
		e, err := b.log.Get(context.Background(), seq)
		if err != nil {
			b.Fatal(err)
		}
		if e.Subject.Class == events.Observed && e.Subject.Key == keyOf(p) && e.UID == string(p.UID) {
			out = append(out, e)
		}
	}
	return out
}

func statusIn(t *testing.T, e events.Event) *v1.PodStatus {
	t.Helper()
	p := &v1.Pod{}
	if err := json.Unmarshal(e.Object, p); err != nil {
		t.Fatal(err)
	}
	return &p.Status
}

// await waits until the newest report about a pod satisfies ok.
func (b *bench) await(p *v1.Pod, what string, ok func(verb string, st *v1.PodStatus) bool) *v1.PodStatus {
	b.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		list := b.reports(p)
		if n := len(list); n > 0 {
			e := list[n-1]
			if st := statusIn(b.T, e); ok(string(e.Verb()), st) {
				return st
			}
		}
		if time.Now().After(deadline) {
			var story []string
			for _, e := range list {
				story = append(story, string(e.Verb())+" "+string(e.Object))
			}
			b.Fatalf("pod %s: never %s; calls: %q; reports: %q", p.Name, what, b.world.told(), story)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func (b *bench) awaitReady(p *v1.Pod) *v1.PodStatus {
	b.Helper()
	return b.await(p, "ready", func(_ string, st *v1.PodStatus) bool { return st.Phase == v1.PodRunning && podReady(st) })
}

func podReady(st *v1.PodStatus) bool {
	for _, c := range st.Conditions {
		if c.Type == v1.PodReady {
			return c.Status == v1.ConditionTrue
		}
	}
	return false
}

func idOf(st *v1.PodStatus) string { return st.ContainerStatuses[0].ContainerID[len(ladder.IDPrefix):] }

// append writes any other object.
func (b *bench) append(key events.Key, kind, object string) {
	b.Helper()
	_, err := b.log.Append(context.Background(), events.Entry{Event: events.Event{Subject: events.Subject{Class: events.Desired, Key: key},
		Type: events.TypeOf(kind, events.Created), Source: "test", Actor: "test", Time: time.Now(), UID: "c1", Object: json.RawMessage(object)}})
	if err != nil {
		b.Fatal(err)
	}
}

// observe is another writer's report of a pod's status.
func (b *bench) observe(p *v1.Pod, st *v1.PodStatus) {
	b.Helper()
	raw, err := json.Marshal(map[string]any{"metadata": map[string]string{"uid": string(p.UID)}, "status": st})
	if err != nil {
		b.Fatal(err)
	}
	_, err = b.log.Append(context.Background(), events.Entry{Event: events.Event{Subject: events.Subject{Class: events.Observed, Key: keyOf(p)},
		Type: "io.orlog.pod.status-reported", Source: "test", Actor: "test", Time: time.Now(), UID: string(p.UID), Object: raw}})
	if err != nil {
		b.Fatal(err)
	}
}
