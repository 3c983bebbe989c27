// Package deployment rolls Deployments out through ReplicaSets, as upstream's controller does: rolling
// updates within maxSurge and maxUnavailable, recreation, pausing, proportional scaling, revision history
// and the conditions that kubectl rollout reads.
//
// How data passes through: Decide loads the Deployment and its ReplicaSets into a [rollout], a private copy
// that the rules edit (revision.go finds or makes the new ReplicaSet, rolling.go and recreate.go move
// replicas, scale.go distributes them, status.go counts). At the end whatever differs from what was read
// becomes effects: one update a ReplicaSet, one status update of the Deployment.
package deployment
