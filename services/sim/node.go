package sim

import (
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/services/loop"
)

const heartbeatEvery = 10 * time.Second

// node plays a machine with its agent: it reads the log at its own pace, runs pods, and reports.
type node struct {
	w    *world
	name string
	// machine and agent say what is up. Containers live as long as the machine.
	machine, agent bool
	at             events.Sequence // how far the agent has read
	pods           []*podRun       // in order of arrival
	addresses      int
	reports        int
	registerAt     time.Time // not before
	number         int
	// judged is the revision of the Node object that saysReady has looked at, and ready what it saw.
	judged events.Sequence
	ready  bool
}

func (w *world) newNode(i int) *node {
	n := &node{w: w, name: fmt.Sprintf("node-%d", i), number: i, machine: true, agent: true}
	n.beat()
	return n
}

func (n *node) actor() string    { return "system:node:" + n.name }
func (n *node) key() events.Key  { return loop.Nodes.Key("", n.name) }
func (n *node) source() string   { return "agent/" + n.name }
func (n *node) reportID() string { n.reports++; return fmt.Sprintf("%s-%d", n.name, n.reports) }

// actions lists what the agent could do next.
func (n *node) actions(out []action) []action {
	if !n.agent {
		return out
	}
	if n.at < n.w.record.last() {
		return append(out, n.read)
	}
	now := n.w.clock.now
	switch s := n.w.record.at(n.key(), n.at); {
	case !s.Exists() && !now.Before(n.registerAt):
		out = append(out, n.register)
	case s.Exists() && !now.Before(n.registerAt) && !n.saysReady(s):
		out = append(out, n.reportReady)
	}
	for _, r := range n.pods {
		if r.dirty() && !now.Before(r.retryAt) {
			out = append(out, r.report)
		}
	}
	return out
}

// idle says whether the agent has nothing to do but on a timer.
func (n *node) idle() bool {
	return n.agent && n.at == n.w.record.last() && !slices.ContainsFunc(n.pods, func(r *podRun) bool { return r.dirty() || r.moving })
}

// read takes in some of the log: the desired events about the node's pods.
func (n *node) read() {
	from := n.at
	n.at += events.Sequence(1 + n.w.rng.IntN(int(n.w.record.last()-n.at)))
	for _, e := range n.w.record.events[n.w.faults.again(from):n.at] {
		if e.Subject.Class == events.Desired && n.mine(e.Subject.Node) && loop.Pods.Is(e.Subject.Key) {
			n.look(e)
		}
	}
}

// mine says whether what is bound to a node is this one's to run.
func (n *node) mine(name string) bool {
	return name == n.name || (n.w.bugs.Elsewhere && name != "")
}

// look brings a pod's run in line with what the agent has read of the pod.
func (n *node) look(e events.Event) {
	s := n.w.record.at(e.Subject.Key, n.at)
	for _, r := range slices.Clone(n.pods) {
		if r.key == e.Subject.Key && (!s.Exists() || s.UID != r.uid) {
			r.vanish()
		}
	}
	if !s.Exists() || !n.mine(s.Node) {
		return
	}
	i := slices.IndexFunc(n.pods, func(r *podRun) bool { return r.uid == s.UID })
	if i < 0 {
		n.w.rules.runsOnce(n, s.UID)
		n.addresses++
		r := &podRun{n: n, key: s.Key, uid: s.UID, ip: fmt.Sprintf("10.244.%d.%d", n.number, n.addresses)}
		n.pods = append(n.pods, r)
		i = len(n.pods) - 1
		if parse(s.Object).meta()["deletionTimestamp"] == nil {
			r.start()
		}
	}
	r := n.pods[i]
	r.cause = events.CauseOf(e)
	if parse(s.Object).meta()["deletionTimestamp"] != nil {
		r.stop()
	}
}

// beat renews the node's lease for ever.
func (n *node) beat() {
	n.w.clock.after(heartbeatEvery, n.beat)
	if n.agent {
		n.renew()
	}
}

func (n *node) renew() {
	key := loop.Leases.Key(corev1.NamespaceNodeLease, n.name)
	s := n.w.heartbeats.now(key)
	uid, verb := s.UID, events.Updated
	if !s.Exists() {
		uid, verb = "lease-"+n.name, events.Created
	}
	renewed := metav1.NewMicroTime(n.w.clock.now)
	o := encode(object{"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
		"metadata": object{"name": n.name, "namespace": corev1.NamespaceNodeLease, "uid": uid}, "spec": object{"renewTime": renewed, "holderIdentity": n.name}})
	subject := events.Subject{Class: events.Desired, Key: key}
	// A beat that fails is made good by the next one.
	if _, err := n.w.append(n.w.heartbeats, events.Entry{Expect: events.ExpectClass(subject, s.Desired), Event: events.Event{ID: n.reportID(), Subject: subject,
		Type: events.TypeOf("lease", verb), Source: n.source(), Actor: n.actor(), Time: n.w.clock.now, UID: uid, Object: o}}); err != nil {
		n.w.tell("%s: heartbeat: %v", n.name, err)
	}
}

// register creates the Node object.
func (n *node) register() {
	room := corev1.ResourceList{corev1.ResourceCPU: *quantity(int64(n.w.plan.Cores) * 1000), corev1.ResourcePods: *quantity(110_000)}
	o := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: n.name, Labels: map[string]string{corev1.LabelHostname: n.name}},
		Status: corev1.NodeStatus{Allocatable: room, Capacity: room, Conditions: n.conditions()}}
	_, err := n.w.api.perform(request{Effect: loop.Nodes.Create(o), actor: n.actor()})
	n.afterTry("registering", err)
}

func (n *node) conditions() []corev1.NodeCondition {
	now := metav1.NewTime(n.w.clock.now)
	return []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady", LastHeartbeatTime: now, LastTransitionTime: now}}
}

func (n *node) afterTry(what string, err error) {
	if err != nil {
		n.w.tell("%s: %s: %v", n.name, what, err)
		n.pause(time.Second)
	}
}

// pause keeps the agent from registering again at once.
func (n *node) pause(d time.Duration) {
	n.registerAt = n.w.clock.now.Add(d)
	n.w.clock.after(d, func() {})
}

// saysReady says whether a state of the Node object has it in service. It is asked at every step.
func (n *node) saysReady(s events.State) bool {
	if s.Revision == n.judged {
		return n.ready
	}
	var o corev1.Node
	decodeInto(s.Object, &o)
	i := slices.IndexFunc(o.Status.Conditions, func(c corev1.NodeCondition) bool { return c.Type == corev1.NodeReady })
	n.judged, n.ready = s.Revision, i >= 0 && o.Status.Conditions[i].Status == corev1.ConditionTrue
	return n.ready
}

// reportReady puts right what somebody else has said about the node's conditions.
func (n *node) reportReady() {
	s := n.w.record.at(n.key(), n.at)
	var o corev1.Node
	decodeInto(s.Object, &o)
	o.Status.Conditions = n.conditions()
	subject := events.Subject{Class: events.Observed, Key: n.key(), Node: n.name}
	_, err := n.w.append(n.w.record, events.Entry{Expect: events.ExpectClass(subject, s.Observed), Event: events.Event{ID: n.reportID(), Subject: subject,
		Type: "io.orlog.node.ready", Source: n.source(), Actor: n.actor(), Time: n.w.clock.now, UID: s.UID,
		Object: encode(object{"metadata": object{"uid": s.UID}, "status": o.Status})}})
	n.afterTry("reporting the node", err)
}

// agentDown ends the agent for a while; the containers go on.
func (n *node) agentDown(d time.Duration) {
	if !n.agent {
		return
	}
	n.agent = false
	n.w.tell("%s: the agent is down for %s", n.name, d)
	n.w.clock.after(d, func() {
		if n.machine && !n.agent {
			n.agent = true
			n.w.tell("%s: the agent is back", n.name)
		}
	})
}

// machineDown ends the machine for a while, and all containers with it.
func (n *node) machineDown(d time.Duration) {
	if !n.machine {
		return
	}
	n.machine, n.agent = false, false
	n.w.tell("%s: the machine is down for %s", n.name, d)
	for _, r := range n.pods {
		r.epoch++
	}
	n.w.clock.after(d, n.boot)
}

// replaced ends the machine, and brings it back with an empty disk: the agent reads the log from the beginning.
func (n *node) replaced(d time.Duration) {
	if !n.machine {
		return
	}
	n.w.tell("%s: the machine is replaced", n.name)
	n.machineDown(d)
	for _, r := range slices.Clone(n.pods) {
		r.vanish()
	}
	n.at = 0
}

func (n *node) boot() {
	if n.machine {
		n.agent = true
		return
	}
	n.machine, n.agent = true, true
	n.w.tell("%s: the machine is back", n.name)
	for _, r := range n.pods {
		r.rebooted()
	}
}
