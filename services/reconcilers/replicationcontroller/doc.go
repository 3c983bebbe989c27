// Package replicationcontroller keeps as many pods alive as a ReplicationController asks for.
//
// It is a ReplicaSet of older spelling: Decide writes the ReplicationController as one, lets package
// replicaset decide, and reads the status back.
package replicationcontroller
