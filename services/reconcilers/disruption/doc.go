// Package disruption says of every PodDisruptionBudget how many pods may be evicted.
//
// Decide reads the budget and the pods that it selects; scale.go asks the pods' controllers how many there
// should be, where the budget is relative to that. The status it writes is what the gateway's eviction
// subresource decrements: pods that were evicted and not yet deleted stand in status.disruptedPods and count
// as unhealthy until they are gone, or for two minutes at most.
package disruption
