package main

import (
	"fmt"

	"github.com/orlog-io/orlog/cli/orlog/change"
	"github.com/orlog-io/orlog/events"
)

// state is what an object is doing, in words that follow its name.
type state struct {
	text string
	// well: it does what it should. ends: it is gone, or going.
	well, ends bool
}

// stateOf reads an object's state; nil is an object that is gone.
func stateOf(key events.Key, object map[string]any) state {
	if object == nil {
		return state{text: "is gone", ends: true}
	}
	at := func(path ...string) string {
		var v any = object
		for _, p := range path {
			m, _ := v.(map[string]any)
			v = m[p]
		}
		if v == nil {
			return ""
		}
		return change.Value(v, 0)
	}
	if at("metadata", "deletionTimestamp") != "" {
		return state{text: "is coming to its end", ends: true}
	}
	if key.GroupResource() == "pods" {
		return podState(at("spec", "nodeName"), at("status", "phase"), at("status", "reason"), object)
	}
	for _, c := range []struct{ condition, yes, no string }{
		{"Failed", "has failed", ""}, {"Complete", "is complete", ""}, {"Available", "is available", "is not available"},
		{"Ready", "is ready", "is not ready"}, {"Established", "is established", "is not established"},
	} {
		switch conditionStatus(object, c.condition) {
		case "True":
			return state{text: c.yes, well: c.condition != "Failed"}
		case "False", "Unknown":
			if c.no != "" {
				return state{text: c.no}
			}
		}
	}
	return state{text: "is as it is", well: true}
}

func podState(node, phase, reason string, object map[string]any) state {
	if reason == "" {
		reason = waitingReason(object)
	}
	if reason != "" {
		reason = " (" + reason + ")"
	}
	switch {
	case phase == "Succeeded":
		return state{text: "has completed on " + node, well: true}
	case phase == "Failed" && node == "":
		return state{text: "has failed" + reason}
	case phase == "Failed":
		return state{text: fmt.Sprintf("has failed on %s%s", node, reason)}
	case node == "":
		return state{text: "waits for a node"}
	case phase == "Running" && conditionStatus(object, "Ready") == "True":
		return state{text: "runs on " + node, well: true}
	case phase == "Running":
		return state{text: fmt.Sprintf("runs on %s but is not ready%s", node, reason)}
	case phase == "Unknown":
		return state{text: fmt.Sprintf("was on %s, which does not answer", node)}
	}
	return state{text: fmt.Sprintf("is starting on %s%s", node, reason)}
}

// elements are the maps in a list of the object's status.
func elements(object map[string]any, field string) []map[string]any {
	status, _ := object["status"].(map[string]any)
	list, _ := status[field].([]any)
	var out []map[string]any
	for _, e := range list {
		if m, ok := e.(map[string]any); ok {
			out = append(out, m)
		}
	}
	return out
}

func conditionStatus(object map[string]any, kind string) string {
	for _, c := range elements(object, "conditions") {
		if c["type"] == kind {
			s, _ := c["status"].(string)
			return s
		}
	}
	return ""
}

// waitingReason is why some container of a pod does not run: ImagePullBackOff, CrashLoopBackOff.
func waitingReason(object map[string]any) string {
	for _, field := range []string{"initContainerStatuses", "containerStatuses"} {
		for _, c := range elements(object, field) {
			current, _ := c["state"].(map[string]any)
			waiting, _ := current["waiting"].(map[string]any)
			if reason, _ := waiting["reason"].(string); reason != "" && reason != "PodInitializing" && reason != "ContainerCreating" {
				return change.Value(reason, 0)
			}
		}
	}
	return ""
}
