// Package endpoints says where a Service's traffic goes: [Slices] keeps its EndpointSlices, which proxies and
// DNS read, [Legacy] the older Endpoints object, which many clients still do.
//
// Both look at the same thing: the pods in the Service's namespace that its selector matches (members.go),
// with the ports that targetPort means on each of them (ports.go). Services without a selector are left to
// whoever writes their endpoints by hand; where those are Endpoints, [Mirror] keeps slices like them, as proxies
// and DNS read nothing else.
package endpoints
