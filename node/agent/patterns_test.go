package agent

import (
	"slices"
	"testing"

	"github.com/orlog-io/orlog/events"
)

func TestPatterns(t *testing.T) {
	of := func(class events.Class, group, resource, name, node string) string {
		key := events.Key{Group: group, Resource: resource, Namespace: "shop", Name: name}
		return events.Subject{Class: class, Key: key, Node: node}.String()
	}
	for subject, want := range map[string]bool{
		of(events.Desired, "", "pods", "web", "worker.1"):                                true,
		of(events.Observed, "", "pods", "web", "worker.1"):                               true,
		of(events.Desired, "", "pods", "web", "worker.2"):                                false,
		of(events.Desired, "", "pods", "web", ""):                                        false,
		of(events.Observed, "", "nodes", "worker.1", "worker.1"):                         true,
		of(events.Observed, "", "nodes", "worker.2", "worker.2"):                         false,
		of(events.Desired, "", "configmaps", "settings", ""):                             true,
		of(events.Desired, "", "secrets", "key", ""):                                     true,
		of(events.Desired, "", "services", "web", ""):                                    true,
		of(events.Desired, "discovery.k8s.io", "endpointslices", "web-1", ""):            true,
		of(events.Desired, "node.k8s.io", "runtimeclasses", "quick", ""):                 true,
		of(events.Desired, "", "events", "web.1", ""):                                    false,
		of(events.Desired, "apps", "replicasets", "web", ""):                             false,
		of(events.Desired, "coordination.k8s.io", "leases", "worker.1", "worker.1"):      false,
		of(events.Desired, "example.com", "configmaps", "somebody else's resource", "-"): false,
	} {
		got := slices.ContainsFunc(patterns("worker.1"), func(p string) bool { return events.Matches(p, subject) })
		if got != want {
			t.Errorf("%s: read %v, want %v", subject, got, want)
		}
	}
}
