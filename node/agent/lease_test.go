package agent

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	coordv1 "k8s.io/api/coordination/v1"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/events/memlog"
	"github.com/orlog-io/orlog/projections"
)

// TestLeaseBelongsToItsNode: the lease is there before the node is, and goes with the node that there is now.
func TestLeaseBelongsToItsNode(t *testing.T) {
	store, err := projections.Open("", projections.Options{InMemory: true})
	if err != nil {
		t.Fatal(err)
	}
	log := memlog.New()
	ctx, stop := context.WithCancel(t.Context())
	followed := make(chan error, 1)
	go func() { followed <- store.Follow(ctx, log) }()
	defer func() {
		stop()
		if err := <-followed; err != nil {
			t.Error(err)
		}
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	}()
	a := &Agent{o: Options{NodeName: "n1", Store: store, Volatile: memlog.New(), Heartbeat: 10 * time.Second}}
	node := func(verb events.Verb, uid string) {
		t.Helper()
		seqs, err := log.Append(ctx, events.Entry{Event: events.Event{ID: uid + string(verb), Subject: events.Subject{Class: events.Desired, Key: a.nodeKey(), Node: "n1"},
			Type: events.TypeOf("node", verb), Source: "test", Actor: "test", UID: uid, Time: time.Now(), Object: []byte(`{"metadata":{"name":"n1","uid":"` + uid + `"}}`)}})
		if err != nil {
			t.Fatal(err)
		}
		if err := store.WaitFor(ctx, seqs[0]); err != nil {
			t.Fatal(err)
		}
	}
	owner := func() string {
		t.Helper()
		if err := a.beat(ctx); err != nil {
			t.Fatal(err)
		}
		last, err := a.o.Volatile.LastOn(ctx, events.Subject{Class: events.Desired,
			Key: events.Key{Group: "coordination.k8s.io", Resource: "leases", Namespace: "kube-node-lease", Name: "n1"}}.AnyNode())
		if err != nil {
			t.Fatal(err)
		}
		var lease coordv1.Lease
		if err := json.Unmarshal(last.Object, &lease); err != nil {
			t.Fatal(err)
		}
		if len(lease.OwnerReferences) == 0 {
			return ""
		}
		if o := lease.OwnerReferences[0]; len(lease.OwnerReferences) > 1 || o.Kind != "Node" || o.APIVersion != "v1" || o.Name != "n1" {
			t.Errorf("owners %+v", lease.OwnerReferences)
		}
		return string(lease.OwnerReferences[0].UID)
	}
	if got := owner(); got != "" {
		t.Errorf("without a node the lease belongs to %s", got)
	}
	node(events.Created, "u1")
	if got := owner(); got != "u1" {
		t.Errorf("the lease belongs to %q, want u1", got)
	}
	node(events.Deleted, "u1")
	node(events.Created, "u2")
	if got := owner(); got != "u2" {
		t.Errorf("the lease belongs to %q, want u2", got)
	}
}
