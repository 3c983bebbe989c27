package change

import (
	"encoding/json"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"unicode"
)

// Field is one field that moved.
type Field struct {
	// From and To are decoded JSON; see Added and Removed for absence.
	From, To any
	// Added: there was none before. Removed: there is none now.
	Added, Removed bool
	// Minor: it moved, but what it says is the same, such as a condition's message under the same status.
	Minor bool
	// Hidden values are not shown: a Secret's.
	Hidden bool

	path path
}

// Path is the field's name: spec.template.spec.containers[web].image.
func (f Field) Path() string { return f.path.String() }

// Status reports whether the field is something reported rather than wanted.
func (f Field) Status() bool { return len(f.path) > 0 && f.path[0] == "status" }

// bookkeeping are fields under metadata and status that some component keeps for itself.
var (
	metadataBookkeeping = map[string]bool{"managedFields": true, "resourceVersion": true, "generation": true, "deletionGracePeriodSeconds": true}
	statusBookkeeping   = map[string]bool{"observedGeneration": true, "lastTransitionTime": true, "lastUpdateTime": true, "lastHeartbeatTime": true,
		"lastProbeTime": true, "containerID": true, "imageID": true, "startedAt": true}
	annotationBookkeeping = []string{"kubectl.kubernetes.io/last-applied-configuration", "deployment.kubernetes.io/", "deprecated.daemonset.template.generation",
		"endpoints.kubernetes.io/last-change-trigger-time", "control-plane.alpha.kubernetes.io/leader"}
)

// Bookkeeping reports whether the field says nothing to a person: controllers' notes to themselves, copies,
// and time stamps that move with every report.
func (f Field) Bookkeeping() bool {
	if len(f.path) < 2 {
		return false
	}
	switch f.path[0] {
	case "metadata":
		if metadataBookkeeping[f.path[1]] {
			return true
		}
		if f.path[1] != "annotations" || len(f.path) < 3 {
			return false
		}
		name := strings.Trim(f.path[2], "[]")
		for _, prefix := range annotationBookkeeping {
			if strings.HasPrefix(name, prefix) {
				return true
			}
		}
	case "status":
		return statusBookkeeping[f.path.last()]
	}
	return false
}

// shortLength bounds a value where the reader did not ask for all of it.
const shortLength = 60

// String is the field in one line, its values cut to some 60 characters.
func (f Field) String() string { return f.Text(shortLength) }

// Text is the field in one line: "spec.replicas: 3 -> 5". limit bounds each value's length in characters; 0 is
// no bound.
func (f Field) Text(limit int) string {
	name := f.Path()
	switch {
	case f.Hidden && f.Added:
		return name + ": *** (new)"
	case f.Hidden && f.Removed:
		return name + ": *** (removed)"
	case f.Hidden:
		return name + ": *** (changed)"
	case f.Added:
		return name + ": " + f.value(f.To, limit) + " (new)"
	case f.Removed:
		return name + ": " + f.value(f.From, limit) + " (removed)"
	}
	return name + ": " + f.value(f.From, limit) + " -> " + f.value(f.To, limit)
}

// value formats a value of the field.
func (f Field) value(v any, limit int) string {
	if m, ok := v.(map[string]any); ok && strings.HasPrefix(f.path.last(), "[") {
		v = withoutIdentity(m, strings.Trim(f.path.last(), "[]"))
	}
	return Value(v, limit)
}

// withoutIdentity leaves out of a list's element what its path says already; env[COLOR] is its value then.
func withoutIdentity(m map[string]any, id string) any {
	rest := maps.Clone(m)
	for _, k := range identities {
		if v, has := m[k]; has && Value(v, 0) == id {
			delete(rest, k)
			break
		}
	}
	if value, ok := rest["value"]; ok && len(rest) == 1 {
		return value
	}
	if len(rest) == 0 {
		return m
	}
	return rest
}

// Value formats decoded JSON for people: text as it is, unless that could be misread; what is composed, as JSON.
func Value(v any, limit int) string {
	var s string
	switch x := v.(type) {
	case string:
		s = x
		if x == "" || strings.TrimSpace(x) != x || strings.ContainsFunc(x, func(r rune) bool { return unicode.IsControl(r) || r == unicode.ReplacementChar }) {
			s = strconv.Quote(x)
		}
	case json.Number:
		s = x.String()
	default:
		b, err := json.Marshal(v)
		if err != nil {
			s = fmt.Sprint(v) // cannot happen: it was decoded from JSON
		} else {
			s = string(b)
		}
	}
	if r := []rune(s); limit > 3 && len(r) > limit {
		s = string(r[:limit-3]) + "..."
	}
	return s
}
