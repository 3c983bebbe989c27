package change

import (
	"maps"
	"reflect"
	"slices"
	"strings"
)

// joined compares, as one field, maps whose parts belong together: a condition and a container's state. false:
// these are none.
func joined(out *[]Field, p path, a, b map[string]any) bool {
	was, is := joinedText(p, a), joinedText(p, b)
	if was == "" || is == "" || containerStatus(p) {
		return false
	}
	if reflect.DeepEqual(a, b) {
		return true
	}
	f := Field{path: p, From: was, To: is}
	if inConditions(p) && a["status"] == b["status"] {
		f.Minor = true
		if was == is { // then the message moved, or a time
			if a["message"] == b["message"] {
				return true
			}
			f.path, f.From, f.To = p.key("message"), text(a, "message"), text(b, "message")
		}
	} else if was == is {
		f.Minor = true
	}
	*out = append(*out, f)
	return true
}

// joinedText is a condition or a container's state in words: "False (Unschedulable)", "terminated (Error, exit
// code 1)". "" for anything else.
func joinedText(p path, v any) string {
	m, ok := v.(map[string]any)
	if !ok || len(p) == 0 || p[0] != "status" {
		return ""
	}
	switch {
	case inConditions(p):
		return withDetails(text(m, "status"), text(m, "reason"))
	case containerStatus(p[:len(p)-1]) && (p.last() == "state" || p.last() == "lastState"):
		return stateText(m)
	case containerStatus(p): // a container that came or went: its state is what there is to say
		current, _ := m["state"].(map[string]any)
		return stateText(current)
	}
	return ""
}

// containerStatus reports whether a path is that of one container's status.
func containerStatus(p path) bool {
	return len(p) >= 2 && strings.HasSuffix(p[len(p)-2], "ontainerStatuses") && strings.HasPrefix(p.last(), "[")
}

func inConditions(p path) bool {
	return len(p) >= 2 && p[len(p)-2] == "conditions" && strings.HasPrefix(p.last(), "[")
}

func stateText(m map[string]any) string {
	keys := slices.Sorted(maps.Keys(m))
	if len(keys) == 0 {
		return "none"
	}
	if len(keys) != 1 {
		return ""
	}
	state, _ := m[keys[0]].(map[string]any)
	details := []string{text(state, "reason")}
	if code, has := state["exitCode"]; has {
		details = append(details, "exit code "+Value(code, 0))
	}
	return withDetails(keys[0], details...)
}

func withDetails(what string, details ...string) string {
	details = slices.DeleteFunc(details, func(s string) bool { return s == "" })
	if what == "" || len(details) == 0 {
		return what
	}
	return what + " (" + strings.Join(details, ", ") + ")"
}

func text(m map[string]any, field string) string {
	s, _ := m[field].(string) // nil and other types read as nothing: there is nothing to say then
	return s
}
