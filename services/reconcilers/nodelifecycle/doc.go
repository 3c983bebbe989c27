// Package nodelifecycle notices nodes that fall silent and says what that means for pods.
//
// [Nodes] reads each node's Lease (volatile log) and conditions: 40 s without a heartbeat make the conditions
// Unknown; conditions and cordons are mirrored as taints, which keep the scheduler away. [Eviction] deletes
// the pods that do not tolerate a NoExecute taint, at once or when their tolerationSeconds are over.
package nodelifecycle
