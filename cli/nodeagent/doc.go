// Package nodeagent configures and starts a node's agent: orlog-agent is little more than this, and orlogd
// --agent runs the same beside the control plane. Either way the agent reaches the log and the API with its
// node's own credentials, so that it may do no more in one place than in the other.
package nodeagent
