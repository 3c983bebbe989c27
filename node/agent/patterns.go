package agent

import (
	"strings"

	"github.com/orlog-io/orlog/events"
)

// patterns are what a node reads of the log: of pods and nodes what concerns itself, of what pods and services are made
// of everything. So what happens on other nodes costs this one nothing.
func patterns(node string) []string {
	of := func(group, resource, node string) string {
		return strings.Join([]string{events.SubjectRoot, "*", group, resource, "*", "*", node}, ".")
	}
	own := events.NodeToken(node)
	return []string{
		of("core", "pods", own), of("core", "nodes", own),
		of("core", "configmaps", "*"), of("core", "secrets", "*"), of("core", "services", "*"),
		of("discovery_k8s_io", "endpointslices", "*"), of("node_k8s_io", "runtimeclasses", "*"),
	}
}
