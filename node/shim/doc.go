// Package shim is the supervisor of one pod's containers: a tiny process between the node agent and runc, so
// that pods outlive the agent.
//
// It starts each container with one runc process, is the parent (child subreaper) that every container's first
// process falls to, holds the read ends of their output and the pseudo-terminal masters, writes the log files in
// the CRI format, waits for exits and writes each exit to disk before it tells anybody. It decides nothing: what
// to start, to signal and to forget comes from the agent (node/runc) over a unix socket.
//
// It may import the standard library and x/sys alone, and neither net nor os/user (they would make the binary
// dynamic and its memory large): there is one shim for each pod on a node.
//
// How data passes through: the agent makes the listening socket in the pod's folder, starts the shim there with
// the socket as file descriptor 3, and sends it a [Request] a message ([Conn], SOCK_SEQPACKET). A run becomes a
// runc process whose output the shim pumps into the log; the kernel's SIGCHLD becomes an exit record in the
// container's folder, then a [Status] on every connection that asked for events. The folder's layout is the
// [ContainerDir] function's and the constants beside it.
package shim
