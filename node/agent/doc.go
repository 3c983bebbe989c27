// Package agent runs the pods of one node.
//
// How data passes through: the agent follows the log, as far as it concerns the node (patterns.go), into its own
// projection. A pod that is bound to the node gets a worker, which walks it up one ladder and down again
// (node/agent/ladder decides, the worker performs): network, sandbox, volumes, images, containers, probes. What the
// runtime or a probe reports wakes the worker; nothing is polled. After each step the worker works out the pod's status
// and, if it changed, puts it into the outbox (node/agent/outbox), which appends it to the log as an observed event.
//
// What it durably remembers about a pod lies in <DataDir>/pods/<uid>: record.json (the ladder's record) and
// pod.json (the pod as last seen, and the event that caused it). At start the agent adopts the pods that it has
// records of; the shims kept them running. What belongs to no known pod is pruned, but only once the projection
// has caught up with the log. While the log is unreachable pods run on and nothing is pruned.
//
// Open puts a whole node together from folders and addresses: runtime, images, network, service rules, DNS, and the
// HTTP API that the gateway reaches through the tunnel; New takes the parts, for tests. Reset takes a node's traces
// off the machine. Below DataDir:
//
//	lock          one agent at a time
//	projection/   the agent's own
//	pods/<uid>/   record.json, pod.json, status.json (last told), etc/ and containers/ (termination messages)
//	volumes/      node/volume's          runc/      node/runc's
//	images/       node/image's           network/   node/network's
//	outbox/       what the log has not got yet
//	logs/         <namespace>_<name>_<uid>/<container>/<attempt>.log
//
// Each step is timed, and traced below the trace of the event that asked for it (observe.go); the node's HTTP API has
// /metrics and /stats/summary.
//
// What nobody needs any more goes by itself: images by image.Collector, the logs of attempts before the last and what
// is left of pods that are gone every minute (garbage.go), by settings named as the kubelet's.
//
// It reads objects from its projection only. The API is used for what only it can do: registering the Node,
// requesting tokens, and Kubernetes Events (best effort).
package agent
