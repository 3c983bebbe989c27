// Package reconcilers wires the reconcilers, one package a kind below this one, to the loop: which there
// are ([All]), and how they run ([Run]): on one projection, each writing through the gateway as the service
// account that upstream's controller of the same kind uses. Behind them all, the narrator tells of their work as
// Kubernetes' Events.
package reconcilers
