// Package ladder decides what a node does next for one pod. It is the pure heart of the agent: no clock, no
// random, no I/O.
//
// A pod climbs one ladder: admitted, network, sandbox, volumes, init containers in order, containers; then
// down again: preStop hooks, SIGTERM, SIGKILL, sandbox closed, volumes unmounted, network gone, stopped.
//
// How data passes through: the agent gathers a [Situation] (the pod as desired, what it durably remembers
// about it in a [Record], what the runtime and the probes say, the time) and calls [Next], which names ONE
// [Step]. The agent performs it and hands the [Outcome] to [Record.Did], which moves the record. The agent saves
// the record, asks [Status] what the world should be told, and calls Next again until it answers Wait. Because
// Next looks only at the situation, an agent that was killed anywhere resumes anywhere.
package ladder
