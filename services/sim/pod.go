package sim

import (
	"encoding/json"
	"errors"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/orlog-io/orlog/events"
)

// podRun is one pod on its node.
type podRun struct {
	n        *node
	key      events.Key
	uid      string
	ip       string
	cause    events.Cause
	started  time.Time // zero: not yet
	ready    bool
	since    time.Time // of the present ready
	restarts int32
	stopping bool
	over     bool // nothing runs any more
	failed   bool // ended by itself, or by the node

	epoch  int  // raised whenever what was planned is void
	moving bool // something is going to happen by itself

	// news: there is something to report, as verb; a report under way keeps its event until it is appended.
	news    bool
	verb    events.Verb
	sending *events.Event
	cursor  events.Sequence
	retryAt time.Time
}

func quantity(milli int64) *resource.Quantity {
	return resource.NewMilliQuantity(milli, resource.DecimalSI)
}

func decodeInto(b []byte, to any) {
	if err := json.Unmarshal(b, to); err != nil {
		panic("sim: decoding what was encoded here: " + err.Error())
	}
}

// later has do done after some time, unless the run takes another turn. It waits for the agent.
func (r *podRun) later(least, most time.Duration, do func()) {
	r.epoch++
	r.moving = true
	epoch := r.epoch
	var try func()
	try = func() {
		switch {
		case r.epoch != epoch:
		case !r.n.agent:
			r.n.w.clock.after(500*time.Millisecond, try)
		default:
			r.moving = false
			do()
		}
	}
	r.n.w.clock.after(least+time.Duration(r.n.w.rng.Int64N(int64(most-least))), try)
}

func (r *podRun) start() {
	r.later(50*time.Millisecond, 4*time.Second, func() {
		r.started, r.ready = r.n.w.clock.now, false
		r.tell("started")
		r.becomeReady()
	})
}

func (r *podRun) becomeReady() {
	r.later(time.Millisecond, 4*time.Second, func() {
		r.ready, r.since = true, r.n.w.clock.now
		r.tell("ready")
	})
}

// crash ends the container; it is restarted.
func (r *podRun) crash() {
	if r.started.IsZero() || r.stopping || r.over {
		return
	}
	r.restarts++
	r.ready, r.since = false, r.n.w.clock.now
	r.tell("restarted")
	r.becomeReady()
}

// fail ends the pod for good, as a node short of memory does.
func (r *podRun) fail() {
	if r.stopping || r.over {
		return
	}
	r.epoch++
	r.moving, r.over, r.failed, r.ready, r.since = false, true, true, false, r.n.w.clock.now
	r.tell("failed")
}

// stop ends the pod because it is to be deleted.
func (r *podRun) stop() {
	if r.stopping {
		return
	}
	r.stopping = true
	r.later(10*time.Millisecond, 5*time.Second, func() {
		r.over, r.ready, r.since = true, false, r.n.w.clock.now
		r.tell("stopped")
	})
}

// rebooted finds that nothing runs any more.
func (r *podRun) rebooted() {
	switch {
	case r.over:
	case r.stopping:
		r.stopping = false
		r.stop()
	case r.started.IsZero():
		r.start()
	default:
		r.restarts++
		r.ready, r.since = false, r.n.w.clock.now
		r.tell("restarted")
		r.becomeReady()
	}
}

// vanish forgets a pod whose object is gone. What happened to it is still told.
func (r *podRun) vanish() {
	r.epoch++
	r.n.pods = slices.DeleteFunc(r.n.pods, func(o *podRun) bool { return o == r })
}

func (r *podRun) tell(verb events.Verb) { r.news, r.verb = true, verb }

// dirty says whether something is to be reported.
func (r *podRun) dirty() bool { return r.news || r.sending != nil }

// report appends the newest status, guarded by the newest report about the pod.
func (r *podRun) report() {
	w := r.n.w
	s := w.record.at(r.key, r.n.at)
	if r.sending == nil {
		subject := events.Subject{Class: events.Observed, Key: r.key, Node: r.n.name}
		status := r.status(s)
		if spoil := w.bugs.Agent; spoil != nil {
			spoil(r.n.name, &status)
		}
		r.sending = &events.Event{ID: r.n.reportID(), Subject: subject, Type: events.TypeOf("pod", r.verb), Source: r.n.source(), Actor: r.n.actor(),
			Time: w.clock.now, Cause: r.cause.Sequence, Correlation: r.cause.Correlation, UID: r.uid,
			Object: encode(object{"metadata": object{"uid": r.uid}, "status": status})}
		r.news = false
	}
	e := *r.sending
	_, err := w.append(w.record, events.Entry{Event: e, Expect: events.ExpectClass(e.Subject, max(r.cursor, s.Observed))})
	switch {
	case err == nil && w.faults.crashes():
		r.n.agentDown(w.faults.between(100*time.Millisecond, 10*time.Second)) // its outbox still holds the report
	case err == nil:
		r.cursor, r.sending = w.record.now(r.key).Observed, nil
	case errors.Is(err, events.ErrConflict):
		r.cursor = w.record.now(r.key).Observed
		if w.record.events[r.cursor-1].ID != e.ID { // else it was this one: an append that seemed to fail
			r.news = true // put together anew, from what others have said
		}
		r.sending = nil
	default:
		r.retryAt = w.clock.now.Add(100 * time.Millisecond)
		w.clock.after(100*time.Millisecond, func() {})
	}
}

// status is what the node says of the pod, with others' conditions.
func (r *podRun) status(s events.State) corev1.PodStatus {
	var p corev1.Pod
	if s.Exists() && s.UID == r.uid {
		decodeInto(s.Object, &p)
	}
	at := metav1.NewTime(r.since)
	ready := corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionFalse, LastTransitionTime: at}
	if r.ready {
		ready.Status = corev1.ConditionTrue
	}
	st := corev1.PodStatus{Phase: corev1.PodRunning, QOSClass: p.Status.QOSClass, PodIP: r.ip, PodIPs: []corev1.PodIP{{IP: r.ip}}, HostIP: "192.0.2.1",
		Conditions: []corev1.PodCondition{ready}}
	for _, c := range p.Status.Conditions {
		if c.Type != corev1.PodReady {
			st.Conditions = append(st.Conditions, c)
		}
	}
	c := corev1.ContainerStatus{Name: "c", Ready: r.ready, RestartCount: r.restarts}
	switch {
	case r.over:
		st.Phase = corev1.PodFailed
		c.State.Terminated = &corev1.ContainerStateTerminated{ExitCode: 137, FinishedAt: at}
	case r.started.IsZero():
		st.Phase = corev1.PodPending
		c.State.Waiting = &corev1.ContainerStateWaiting{Reason: "ContainerCreating"}
	default:
		c.State.Running = &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(r.started)}
	}
	st.ContainerStatuses = []corev1.ContainerStatus{c}
	return st
}
