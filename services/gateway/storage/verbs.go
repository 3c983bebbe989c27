package storage

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/orlog-io/orlog/events"
)

// A verb is what a person would say happened. It comes from the request's subresource, where that says it
// all, and otherwise from what changed: each changed path is one aspect, and an update with one aspect has
// its name. Updates of several aspects at once are "updated". Changed labels and annotations do not count
// beside anything else.

// Verbs for what any kind has. A deletion and a creation are named by the log itself.
const (
	deletionRequested events.Verb = "deletion-requested"
	labelled          events.Verb = "labelled"
	annotated         events.Verb = "annotated"
	finalizersChanged events.Verb = "finalizers-changed"
	ownerChanged      events.Verb = "owner-changed"
	statusChanged     events.Verb = "status-changed"
)

// verb names an update.
func (r rewrite) verb(class events.Class, changes []events.Change) events.Verb {
	if class == events.Observed {
		return r.statusVerb()
	}
	changes = slices.DeleteFunc(slices.Clone(changes), func(c events.Change) bool {
		return c.Op == "test" || under(c.Path, "/status")
	})
	if v := r.endingVerb(changes); v != "" {
		return v
	}
	switch r.subresource {
	case "scale":
		return "scaled"
	case "binding":
		return "bound"
	case "resize":
		return "resized"
	case "finalize":
		return "finalized"
	case "ephemeralcontainers":
		return "debugged"
	case "approval":
		return r.statusVerb()
	}
	if len(changes) == 0 && r.diff.status {
		return r.statusVerb()
	}
	return r.aspects(changes)
}

// endingVerb names the beginning of an object's end: it waits for its node, its finalizers or its contents.
func (r rewrite) endingVerb(changes []events.Change) events.Verb {
	if !slices.ContainsFunc(changes, func(c events.Change) bool { return c.Op == "add" && c.Path == "/metadata/deletionTimestamp" }) {
		return ""
	}
	switch {
	case r.subresource == "eviction":
		return "evicted"
	case r.resource.String() == "pods":
		return "termination-requested"
	case r.resource.String() == "namespaces":
		return "terminating"
	}
	return deletionRequested
}

// aspects names the one aspect that changed.
func (r rewrite) aspects(changes []events.Change) events.Verb {
	major, minor := map[events.Verb]bool{}, map[events.Verb]bool{}
	for _, c := range changes {
		switch v := aspect(r.resource.String(), c); v {
		case labelled, annotated, finalizersChanged, ownerChanged, "renewed":
			minor[v] = true
		default:
			major[v] = true
		}
	}
	for _, set := range []map[events.Verb]bool{major, minor} {
		if len(set) == 1 {
			return slices.Collect(maps.Keys(set))[0]
		}
		if len(set) > 1 {
			break
		}
	}
	return events.Updated
}

// rule gives the verb of a change under a path of some resources (nil: of all).
type rule struct {
	resources []string
	path      string
	verb      events.Verb
	// off, where given, is the verb where the new value is false, zero, empty or gone.
	off events.Verb
}

var (
	workloads = []string{"deployments.apps", "statefulsets.apps", "daemonsets.apps", "replicasets.apps", "replicationcontrollers", "jobs.batch"}
	tables    = []string{"configmaps", "secrets"}
	grants    = []string{"rolebindings.rbac.authorization.k8s.io", "clusterrolebindings.rbac.authorization.k8s.io"}
	roles     = []string{"roles.rbac.authorization.k8s.io", "clusterroles.rbac.authorization.k8s.io"}
)

// rules are tried in order; the first that fits names the change.
var rules = []rule{
	{nil, "/metadata/labels", labelled, ""},
	{nil, "/metadata/annotations", annotated, ""},
	{nil, "/metadata/finalizers", finalizersChanged, ""},
	{nil, "/metadata/ownerReferences", ownerChanged, ""},
	{workloads, "/spec/replicas", "scaled", ""},
	{workloads, "/spec/paused", "paused", "resumed"},
	{[]string{"jobs.batch", "cronjobs.batch"}, "/spec/suspend", "suspended", "resumed"},
	{[]string{"cronjobs.batch"}, "/spec/schedule", "rescheduled", ""},
	{workloads, "/spec/template", "template-changed", ""},
	{[]string{"cronjobs.batch"}, "/spec/jobTemplate", "template-changed", ""},
	{[]string{"deployments.apps"}, "/spec/strategy", "strategy-changed", ""},
	{[]string{"services"}, "/spec/selector", "selector-changed", ""},
	{[]string{"services"}, "/spec/ports", "ports-changed", ""},
	{[]string{"services"}, "/spec/type", "type-changed", ""},
	{[]string{"nodes"}, "/spec/unschedulable", "cordoned", "uncordoned"},
	{[]string{"nodes"}, "/spec/taints", "taints-changed", ""},
	{[]string{"pods"}, "/spec/nodeName", "bound", ""},
	{[]string{"persistentvolumeclaims"}, "/spec/resources", "resized", ""},
	{[]string{"persistentvolumeclaims"}, "/spec/volumeName", "bound", ""},
	{[]string{"endpoints"}, "/subsets", "endpoints-changed", ""},
	{[]string{"endpointslices.discovery.k8s.io"}, "/endpoints", "endpoints-changed", ""},
	{[]string{"leases.coordination.k8s.io"}, "/spec/holderIdentity", "acquired", "released"},
	{[]string{"leases.coordination.k8s.io"}, "/spec", "renewed", ""},
	{tables, "/data", "data-changed", ""},
	{tables, "/binaryData", "data-changed", ""},
	{tables, "/immutable", "sealed", ""},
	{grants, "/subjects", "subjects-changed", ""},
	{roles, "/rules", "rules-changed", ""},
	{[]string{"customresourcedefinitions.apiextensions.k8s.io"}, "/spec/versions", "versions-changed", ""},
}

// aspect names one changed path.
func aspect(resource string, c events.Change) events.Verb {
	if strings.HasSuffix(c.Path, "/image") && strings.Contains(strings.ToLower(c.Path), "containers/") {
		return "image-changed"
	}
	if restarts(c) && slices.Contains(workloads, resource) {
		return "restarted"
	}
	for _, r := range rules {
		if !under(c.Path, r.path) || (r.resources != nil && !slices.Contains(r.resources, resource)) {
			continue
		}
		if r.off != "" && empty(c.Value) {
			return r.off
		}
		return r.verb
	}
	return events.Updated
}

// restarts: kubectl rollout restart stamps the pod template.
func restarts(c events.Change) bool {
	const annotations = "/spec/template/metadata/annotations"
	return c.Path == annotations+"/kubectl.kubernetes.io~1restartedAt" ||
		(c.Op == "add" && strings.HasPrefix(annotations, c.Path) && under(c.Path, "/spec/template/metadata") &&
			bytes.Contains(c.Value, []byte(`"kubectl.kubernetes.io/restartedAt"`)))
}

// under reports whether path is at or below prefix.
func under(path, prefix string) bool {
	return strings.HasPrefix(path, prefix) && (len(path) == len(prefix) || path[len(prefix)] == '/')
}

// empty reports whether a value says no: false, 0, "", null, or nothing at all.
func empty(value json.RawMessage) bool {
	switch string(value) {
	case "", "false", "0", `""`, "null", "[]", "{}":
		return true
	}
	return false
}
