// Package dns answers pods' questions about services, by the Kubernetes DNS specification 1.1.0, and passes all other
// questions on to the host's resolvers.
//
// It may touch the sockets it listens on, the addresses it adds to one link if Options.Link says so, and, for foreign
// names, the network. It knows nothing of the log: whoever follows it hands over services and endpoint slices as they
// change ([Server.Service], [Server.EndpointSlice]), and the answers change with them at once.
//
// How data passes through: a query enters CoreDNS's server, which sees to sizes, EDNS and TCP, and goes down a chain of
// its plugins: failures (ours: reports what could not be answered), cluster (ours: answers from records.go and passes
// on what is not its), cache and forward (CoreDNS's).
//
// # CoreDNS as a library
//
// The server is put together by dnsserver.NewServer from plugins as values, without Caddy and without a Corefile, so
// several of them can live in one process, start and stop. What stays global: its metrics, in the default registry
// of the Prometheus client, are shared by all servers of a process; its own log lines go to the standard logger; and
// importing it registers a few flags ("dns.port" and the like) in the standard flag set, which nobody here parses. It
// adds 10 MiB to the resident memory of a process that knows the Kubernetes types already: 9 of the binary's pages and
// 1 of its own.
//
// # On which address
//
// On the cluster's DNS address itself, put onto the pods' bridge (Options.Link): a pod's question then needs neither
// the service rules nor connection tracking, and never leaves the node. If there is a Service of that address, it has
// to carry the label service.kubernetes.io/service-proxy-name, so that the rules leave it alone.
package dns
