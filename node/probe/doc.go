// Package probe asks containers whether they have started, live and are ready: by exec, HTTP, TCP or gRPC.
//
// How data passes through: the agent tells a [Manager] which attempt of which container runs ([Manager.Watch]).
// One goroutine per probe asks at the probe's pace ([Check]) and feeds each answer to a [Counter], a pure state
// machine that knows thresholds; when a verdict changes, the agent is told and reads [Manager.Verdicts]. Liveness
// and readiness wait for the startup probe. The same Check serves lifecycle hooks.
//
// Requests go from the node to the pod's address; nothing else is touched.
package probe
