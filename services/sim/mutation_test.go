package sim

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/services/loop"
)

// busy is a plan without faults: whatever goes wrong in it is the planted bug's doing.
var busy = Plan{Nodes: 3, Cores: 5, Deployments: 2, Length: 2 * time.Minute, Deeds: 8 * time.Second, Calm: true}

// spoilt is a decider with a bug.
type spoilt struct {
	loop.Decider
	spoil func(v *loop.View, key events.Key, d *loop.Decision)
}

func (s spoilt) Decide(v *loop.View, key events.Key, now time.Time) loop.Decision {
	d := s.Decider.Decide(v, key, now)
	s.spoil(v, key, &d)
	return d
}

// spoil plants a bug in one decider.
func spoil(name string, how func(v *loop.View, key events.Key, d *loop.Decision)) Bugs {
	return Bugs{Decider: func(d loop.Decider) loop.Decider {
		if d.Spec().Name != name {
			return d
		}
		return spoilt{d, how}
	}}
}

// eachEffect plants a bug in the effects of one decider; false leaves an effect out.
func eachEffect(name string, how func(v *loop.View, e *loop.Effect) bool) Bugs {
	return spoil(name, func(v *loop.View, _ events.Key, d *loop.Decision) {
		for i := range d.Steps {
			var kept []loop.Effect
			for _, e := range d.Steps[i].Effects {
				if how(v, &e) {
					kept = append(kept, e)
				}
			}
			d.Steps[i].Effects = kept
		}
	})
}

// forgetful decides about every pod of a batch as if it were the only one.
type forgetful struct{ loop.BatchDecider }

func (f forgetful) DecideAll(v *loop.View, keys []loop.Item, now time.Time) []loop.Decision {
	var out []loop.Decision
	for _, k := range keys {
		out = append(out, f.Decide(v.With(k.Cause), k.Key, now))
	}
	return out
}

// resizing changes the size that the deployment reconciler gives a ReplicaSet.
func resizing(size func(was, is int32) int32) Bugs {
	return eachEffect("deployment", func(v *loop.View, e *loop.Effect) bool {
		if rs, ok := e.Object.(*appsv1.ReplicaSet); ok && e.Verb == loop.Update {
			if was := loop.ReplicaSets.At(v, e.Key); was != nil {
				rs.Spec.Replicas = new(size(*was.Spec.Replicas, *rs.Spec.Replicas))
			}
		}
		return true
	})
}

// TestBugsAreNoticed plants bugs: each must be noticed as a violation of the invariant that it breaks.
func TestBugsAreNoticed(t *testing.T) {
	var calls atomic.Int64 // what no decider and no agent may look at
	tight := Plan{Nodes: 2, Cores: 2, Deployments: 4, Length: time.Minute}
	oneByOne := busy
	oneByOne.Deeds, oneByOne.Deployments = 0, 3
	oneByOne.Script = []Deed{{40 * time.Second, "roll"}, {45 * time.Second, "roll"}, {50 * time.Second, "roll"}, {55 * time.Second, "roll"}}
	many := Plan{Nodes: 6, Cores: 8, Deployments: 6, Length: 3 * time.Minute} // of which one at least is a Recreate
	for i := range 30 {
		many.Script = append(many.Script, Deed{time.Duration(20+5*i) * time.Second, []string{"roll", "roll back"}[i%2]})
	}
	for name, c := range map[string]struct {
		bugs Bugs
		plan Plan
		want Invariant
	}{
		"the replica set creates no pods": {eachEffect("replicaset", func(_ *loop.View, e *loop.Effect) bool { return e.Verb != loop.Create }), busy, Converges},
		"the namespaces' cleaner does nothing": {eachEffect("namespace", func(*loop.View, *loop.Effect) bool { return false }),
			Plan{Nodes: 1, Cores: 5, Deployments: 1, Length: time.Minute, Script: []Deed{{5 * time.Second, "make or delete lab"}, {20 * time.Second, "make or delete lab"}}}, Converges},
		"an agent's pods never become ready": {Bugs{Agent: func(node string, s *corev1.PodStatus) {
			if node == "node-0" {
				for i := range s.Conditions {
					s.Conditions[i].Status = corev1.ConditionFalse
				}
			}
		}}, busy, Converges},
		"the scheduler binds a pod twice":    {spoil("scheduler", bindTwice), busy, BoundOnce},
		"agents run what is bound elsewhere": {Bugs{Elsewhere: true}, busy, BoundOnce},
		"the scheduler forgets what it has just placed": {Bugs{Decider: func(d loop.Decider) loop.Decider {
			if b, ok := d.(loop.BatchDecider); ok {
				return forgetful{b}
			}
			return d
		}}, tight, NoOvercommit},
		"the deployment takes down all old pods at once": {resizing(func(was, is int32) int32 {
			if is < was {
				return 0
			}
			return is
		}), oneByOne, Availability},
		"the deployment surges too far": {resizing(func(was, is int32) int32 {
			if is > was {
				return is + 3
			}
			return is
		}), oneByOne, Ceiling},
		"the deployment does not wait for the old pods to go": {spoil("deployment", hasten), many, NoOverlap},
		"the replica set counts its decisions": {spoil("replicaset", func(_ *loop.View, _ events.Key, d *loop.Decision) {
			d.AgainIn(time.Hour + time.Duration(calls.Add(1)))
		}), busy, Pure},
		"an agent reports what differs from run to run": {Bugs{Agent: func(_ string, s *corev1.PodStatus) { s.Message = fmt.Sprint(calls.Add(1)) }}, busy, SameHistory},
		"requests do not tell their cause":              {Bugs{Cause: func(events.Cause) events.Cause { return events.Cause{} }}, busy, Caused},
		"the endpoints' reconciler deletes pods": {spoil("endpoints", func(v *loop.View, _ events.Key, d *loop.Decision) {
			for _, p := range loop.Pods.List(v, "") {
				d.Do(loop.Pods.Delete(p))
				return
			}
		}), busy, Declared},
		"the replica set gives its pods two controllers": {eachEffect("replicaset", func(_ *loop.View, e *loop.Effect) bool {
			if p, ok := e.Object.(*corev1.Pod); ok && e.Verb == loop.Create {
				p.OwnerReferences = append(p.OwnerReferences, metav1.OwnerReference{APIVersion: "v1", Kind: "Node", Name: "x", UID: "x", Controller: new(true)})
			}
			return true
		}), busy, OneController},
		"a projection loses the status of pods": {Bugs{Delivery: func(_ string, e events.Event) events.Event {
			if loop.Pods.Is(e.Subject.Key) && e.Subject.Class == events.Observed {
				e.Object = encode(object{"metadata": object{"uid": e.UID}, "status": object{}})
			}
			return e
		}}, busy, Folded},
		"a decider meets what it cannot read": {spoil("replicaset", func(v *loop.View, _ events.Key, _ *loop.Decision) {
			v.Fail(errors.New("unreadable"))
		}), busy, Sound},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := Twice(Options{Seed: 1, Plan: &c.plan, Bugs: c.bugs})
			var f *Failure
			if !errors.As(err, &f) {
				t.Fatalf("nobody noticed: %v", err)
			}
			if f.Invariant != c.want {
				t.Fatalf("noticed as %q, want %q:\n%v", f.Invariant, c.want, err)
			}
			t.Logf("step %d: %s: %s", f.Step, f.Invariant, f.What)
		})
	}
}

// bindTwice binds a pod to a second node right after the first.
func bindTwice(v *loop.View, key events.Key, d *loop.Decision) {
	for _, e := range d.Effects() {
		if e.Entry == nil {
			continue
		}
		o := parse(e.Entry.Event.Object)
		for _, n := range loop.Nodes.List(v, "") {
			if node := o.spec().text("nodeName"); node != "" && node != n.Name {
				o.sub("spec")["nodeName"] = n.Name
				again := e
				again.Entry = &events.Entry{Event: e.Entry.Event}
				again.Entry.Event.Subject.Node, again.Entry.Event.Object = n.Name, encode(o)
				d.Do(again)
				return
			}
		}
	}
}

// hasten gives the newest ReplicaSet of a Recreate its pods while others still have some.
func hasten(v *loop.View, key events.Key, d *loop.Decision) {
	o := loop.Deployments.At(v, key)
	if o == nil || o.Spec.Strategy.Type != appsv1.RecreateDeploymentStrategyType {
		return
	}
	for _, rs := range loop.ReplicaSets.OwnedBy(v, string(o.UID)) {
		if rs.Spec.Template.Spec.Containers[0].Image == o.Spec.Template.Spec.Containers[0].Image && *rs.Spec.Replicas != *o.Spec.Replicas {
			next := rs.DeepCopy()
			next.Spec.Replicas = new(*o.Spec.Replicas)
			d.Do(loop.ReplicaSets.Update(next))
		}
	}
}

// TestWithoutBugs: the plans of TestBugsAreNoticed violate nothing by themselves.
func TestWithoutBugs(t *testing.T) {
	for _, cores := range []int{3, 5} {
		plan := busy
		plan.Cores = cores
		if _, err := Twice(Options{Seed: 1, Plan: &plan}); err != nil {
			t.Fatal(err)
		}
	}
}
