// Package stream serves the part of the kubelet's HTTP API that people reach through the API server: container
// logs, exec, attach and port-forward, and beside them /healthz and /pods.
//
// It finds a pod's container by asking the agent ([Options.Lookup]), runs and attaches through node/runc, reads
// the CRI log files that node/shim writes, and opens connections inside a pod's network namespace. It keeps no
// state and listens nowhere itself: the agent serves the handler on the tunnel to the gateway, so that a node
// needs no open port. Who may call is decided before the tunnel.
//
// How data passes through: a request is looked up, then logs are read, file after rotated file, straight into the
// response; exec, attach and port-forward are upgraded by k8s.io/cri-streaming (SPDY, or WebSocket v4; newer
// WebSocket protocols are translated by the API server) and their streams handed to the runtime. A client that
// hangs up ends what it started.
package stream
