// Package proxy makes services work on a node: ClusterIPs, node ports, external IPs and pods' host ports, from the
// host itself, from its pods and from outside, by rules in one nftables table.
//
// It may touch that table, connection tracking entries of UDP flows to services, and one route (Options.ServiceCIDR).
//
// How data passes through: whoever follows the log hands over services, endpoint slices and the node's own pods as
// they change ([Proxy.Service], [Proxy.EndpointSlice], [Proxy.Pod]). [Proxy.Run] waits a moment for more, computes
// all rules anew with [Compute], a pure function, and writes the difference to what it wrote before in one
// transaction. When that fails, or every now and then, it writes everything, so that what somebody else did to the
// table is repaired.
//
// # The rules
//
// The first packet of a connection is looked up by address, protocol and port in a map, which leads to a chain of
// the service port; that chain picks one endpoint at random and rewrites the destination. The kernel does the same
// to the rest of the connection by itself.
//
//	svc/<namespace>/<name>/<protocol>/<port>  picks among all endpoints
//	loc/...                                   picks among the node's own
//	ext/...                                   decides between the two, for node ports and external addresses
//	end/.../<address>/<port>                  one endpoint, only for services with session affinity
//
// Connections from a pod to itself through a service get the host's address as their source, else the pod would
// answer itself past the rewriting. Connections that come from outside to a node port and may go on to another
// node do too. Everything else keeps its source: package network routes pods' answers back through the host.
//
// What has no endpoints is refused at once, so that clients need not wait for a timeout.
package proxy
