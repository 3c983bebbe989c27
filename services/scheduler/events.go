package scheduler

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/services/loop"
)

// Types of the scheduler's events.
const (
	Bound         = "io.orlog.pod.bound"
	Unschedulable = "io.orlog.pod.unschedulable"
)

// bind makes the one event that both sets spec.nodeName and reports PodScheduled.
func bind(v *loop.View, c candidate, r Record, now time.Time) loop.Decision {
	scheduled := corev1.PodCondition{Type: corev1.PodScheduled, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(now)}
	status, err := withCondition(c.state.Object, c.pod, scheduled)
	var object json.RawMessage
	if err == nil {
		delete(status, "nominatedNodeName")
		object, err = edited(c.state.Object, map[string]any{"nodeName": r.Node}, status)
	}
	if err != nil {
		v.Fail(fmt.Errorf("binding %s: %w", c.state.Key, err))
		return loop.Decision{}
	}
	return decision(c, Bound, events.Subject{Class: events.Desired, Key: c.state.Key, Node: r.Node}, object, object, r)
}

// unschedulable reports why no node will do and where room is made, unless that is what the pod says already,
// makes the victims go, and waits for the world to change.
func unschedulable(v *loop.View, c candidate, r Record, victims []*corev1.Pod, now time.Time) loop.Decision {
	next := corev1.PodCondition{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonUnschedulable,
		Message: r.Message, LastTransitionTime: metav1.NewTime(now)}
	said := false
	for _, was := range c.pod.Status.Conditions {
		if was.Type != corev1.PodScheduled || was.Status != next.Status {
			continue
		}
		said = was.Reason == next.Reason && was.Message == next.Message && c.pod.Status.NominatedNodeName == r.Nominated
		next.LastTransitionTime = was.LastTransitionTime
	}
	d := loop.Decision{}
	if !said {
		report, whole, err := condition(c, next, r.Nominated)
		if err != nil {
			v.Fail(fmt.Errorf("reporting on %s: %w", c.state.Key, err))
			return loop.Decision{}
		}
		d = decision(c, Unschedulable, events.Subject{Class: events.Observed, Key: c.state.Key}, report, whole, r)
	}
	for _, victim := range victims {
		effects, err := evict(victim, c, r.Nominated, now)
		if err != nil {
			v.Fail(fmt.Errorf("preempting %s/%s: %w", victim.Namespace, victim.Name, err))
			return loop.Decision{}
		}
		for _, e := range effects {
			d.Do(e) // one after the other
		}
	}
	d.Park = true
	return d
}

// condition is a status report with a condition replaced, and the object as it will then be.
func condition(c candidate, next corev1.PodCondition, nominated string) (report, whole json.RawMessage, err error) {
	status, err := withCondition(c.state.Object, c.pod, next)
	if err != nil {
		return nil, nil, err
	}
	if delete(status, "nominatedNodeName"); nominated != "" {
		if status["nominatedNodeName"], err = json.Marshal(nominated); err != nil {
			return nil, nil, err
		}
	}
	if report, err = json.Marshal(map[string]any{"metadata": map[string]any{"uid": c.state.UID}, "status": status}); err != nil {
		return nil, nil, err
	}
	whole, err = edited(c.state.Object, nil, status)
	return report, whole, err
}

func decision(c candidate, kind string, subject events.Subject, object, whole json.RawMessage, r Record) loop.Decision {
	e := events.Event{Subject: subject, Type: kind, UID: c.state.UID, Object: object}
	if changes, err := events.Diff(c.state.Object, whole); err == nil {
		e.Changes = events.EncodeChanges(changes)
	}
	entry := &events.Entry{Event: e, Expect: events.ExpectObject(subject, c.state.Newest())}
	var d loop.Decision
	d.Do(loop.Effect{Verb: loop.AppendEvent, Resource: loop.Pods.GroupVersionResource, Key: c.state.Key, Entry: entry, Reason: r.json()})
	return d
}

type fields map[string]json.RawMessage

// withCondition is the object's status with a condition replaced, every other field as it was written.
func withCondition(object json.RawMessage, p *corev1.Pod, next corev1.PodCondition) (fields, error) {
	var o struct {
		Status fields `json:"status"`
	}
	if err := json.Unmarshal(object, &o); err != nil {
		return nil, err
	}
	status := o.Status
	if status == nil {
		status = fields{}
	}
	conditions := slices.DeleteFunc(slices.Clone(p.Status.Conditions), func(c corev1.PodCondition) bool { return c.Type == next.Type })
	b, err := json.Marshal(append(conditions, next))
	status["conditions"] = b
	return status, err
}

// edited is the object with fields of its spec and its status replaced, every other byte of meaning kept.
func edited(object json.RawMessage, spec map[string]any, status fields) (json.RawMessage, error) {
	var o, s fields
	if err := json.Unmarshal(object, &o); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(o["spec"], &s); err != nil {
		return nil, fmt.Errorf("spec: %w", err)
	}
	for _, name := range slices.Sorted(maps.Keys(spec)) {
		b, err := json.Marshal(spec[name])
		if err != nil {
			return nil, err
		}
		s[name] = b
	}
	var err error
	if o["spec"], err = json.Marshal(s); err != nil {
		return nil, err
	}
	if o["status"], err = json.Marshal(status); err != nil {
		return nil, err
	}
	return json.Marshal(o)
}
