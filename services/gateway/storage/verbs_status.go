package storage

import (
	"encoding/json"

	"github.com/orlog-io/orlog/events"
)

// situation is as much of a status as verbs are made of.
type situation struct {
	Phase             string
	Conditions        []condition
	ContainerStatuses []container
}

type condition struct{ Type, Status, Reason string }

type container struct {
	Name         string
	RestartCount int
	State        struct{ Waiting, Running, Terminated *struct{} }
}

// situationOf reads a status; one of another shape gives what can be read of it.
func situationOf(d document) situation {
	var s situation
	// A status of another shape is legal: it has no verb of its own, which is what the zero situation gives.
	_ = json.Unmarshal(d.fields["status"], &s)
	return s
}

func (s situation) condition(kind string) condition {
	for _, c := range s.Conditions {
		if c.Type == kind {
			return c
		}
	}
	return condition{}
}

// turn gives the verbs of a condition that turns true, false or unknown; "" where that has none.
type turn struct {
	condition            string
	isTrue, isFalse, odd events.Verb
}

// turns are looked at in order, by resource.
var turns = map[string][]turn{
	"pods":             {{"Ready", "ready", "unready", ""}},
	"nodes":            {{"Ready", "ready", "not-ready", "unreachable"}},
	"deployments.apps": {{"Available", "available", "unavailable", ""}},
	"jobs.batch":       {{"Complete", "completed", "", ""}, {"Failed", "failed", "", ""}, {"Suspended", "suspended", "resumed", ""}},
	"certificatesigningrequests.certificates.k8s.io": {
		{"Revoked", "revoked", "", ""}, {"Approved", "approved", "", ""}, {"Denied", "denied", "", ""}, {"Failed", "failed", "", ""}, {"InForce", "let-in", "turned-away", ""},
	},
	"customresourcedefinitions.apiextensions.k8s.io": {{"Established", "established", "", ""}, {"Terminating", "terminating", "", ""}},
	"apiservices.apiregistration.k8s.io":             {{"Available", "available", "unavailable", ""}},
	"horizontalpodautoscalers.autoscaling":           {{"ScalingLimited", "limited", "unlimited", ""}},
	"flowschemas.flowcontrol.apiserver.k8s.io":       {{"Dangling", "dangling", "attached", ""}},
}

// phases names arrivals in a phase, by resource.
var phases = map[string]map[string]events.Verb{
	"pods":                   {"Running": "started", "Succeeded": "succeeded", "Failed": "failed", "Unknown": "lost"},
	"namespaces":             {"Terminating": "terminating", "Active": "activated"},
	"persistentvolumes":      {"Bound": "bound", "Released": "released", "Available": "available", "Failed": "failed"},
	"persistentvolumeclaims": {"Bound": "bound", "Lost": "lost"},
}

// statusVerb names a change of status.
func (r rewrite) statusVerb() events.Verb {
	was, is := situationOf(r.was), situationOf(r.is)
	resource := r.resource.String()
	if was.Phase != is.Phase {
		if v := phases[resource][is.Phase]; v != "" {
			return v
		}
	}
	if resource == "pods" {
		if v := podVerb(was, is); v != "" {
			return v
		}
	}
	for _, t := range turns[resource] {
		old, now := was.condition(t.condition).Status, is.condition(t.condition).Status
		if old == now {
			continue
		}
		v := map[string]events.Verb{"True": t.isTrue, "False": t.isFalse, "Unknown": t.odd}[now]
		if v != "" && (now != "False" || old == "True") { // false at first is no turn
			return v
		}
	}
	if resource == "pods" || resource == "nodes" {
		return "status-reported"
	}
	return statusChanged
}

// podVerb names what befell a pod's containers, or its search for a node.
func podVerb(was, is situation) events.Verb {
	before := map[string]container{}
	for _, c := range was.ContainerStatuses {
		before[c.Name] = c
	}
	for _, c := range is.ContainerStatuses {
		old := before[c.Name]
		switch {
		case c.RestartCount > old.RestartCount:
			return "restarted"
		case c.State.Terminated != nil && old.State.Terminated == nil:
			return "exited"
		case c.State.Running != nil && old.State.Running == nil:
			return "started"
		}
	}
	scheduled := is.condition("PodScheduled")
	if scheduled.Status == "False" && scheduled != was.condition("PodScheduled") {
		return "unschedulable"
	}
	if is.condition("DisruptionTarget").Status == "True" && was.condition("DisruptionTarget").Status != "True" {
		return "disrupted"
	}
	return ""
}
