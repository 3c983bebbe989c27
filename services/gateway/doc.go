// Package gateway is the Kubernetes API on the log: upstream's own API server chain (aggregator, CRDs, every
// built-in group, RBAC, admission, server-side apply, OpenAPI), used as a library, with its storage replaced
// by services/gateway/storage. kubectl, Helm and client-go see Kubernetes.
//
// What is ours, and all that is in this package:
//
//   - storage through the log behind upstream's watch cache ([storesGetter]); no etcd client is ever made;
//   - who did it and why: every request's identity, cause and reason travel to the event ([withAttribution]);
//   - time travel: the read-only API as of any past moment under /at/<moment>/ ([withTravel]);
//   - history, why, the event stream, positions and digests under /orlog/v1/;
//   - the cluster's own certificate authority and keys in DataDir/pki, what it issues to approved requests, and
//     the end of certificates that are revoked (services/access);
//   - /metrics tells of Orlog beside upstream's ([AllMetrics]); upstream's span of a request, or the client's own
//     traceparent, goes into the events that it writes (tracing.go);
//   - exec, attach, port-forward and logs through the tunnel that each node keeps to the log;
//   - NodePorts derived from the Services themselves instead of from a bitmap on the side, with claims of those
//     being handed out that all gateways on the log see ([portClaims]);
//   - Leases that tell which gateways live, whose addresses the kubernetes Service has ([gatewayLeases]).
//
// How data passes through: a request is authenticated, attributed, authorised, defaulted, admitted and
// validated by upstream's filters; the storage turns what is left into events and appends them; the store
// (which the caller keeps folding with projections.Store.Follow) shows them to the watch cache, and that to
// every watcher.
//
// It may import k8s.io/kubernetes and k8s.io/apiserver, and is the only room that may. Upstream keeps schemes,
// feature gates, capabilities and metrics in process globals: one gateway a process, and its tests do not run
// under the race detector (upstream registers into those globals from several goroutines at start, and the
// instrumented build takes many minutes).
package gateway
