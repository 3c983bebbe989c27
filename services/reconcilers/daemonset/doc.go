// Package daemonset keeps one pod of a DaemonSet on every node that its template admits.
//
// Decide reads the DaemonSet, all nodes, its pods and its history (package revision). manage.go says on which
// nodes a pod must run or may stay, and makes or deletes; update.go replaces pods of old revisions within
// maxUnavailable or maxSurge; status.go counts. Pods are bound by the scheduler: each names its node in its
// affinity.
package daemonset
