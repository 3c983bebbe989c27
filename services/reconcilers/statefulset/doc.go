// Package statefulset keeps a StatefulSet's pods, each with an ordinal, a name and claims of its own.
//
// Decide reads the set, its pods and its history (package revision) into a round. pods.go says what the pod
// of an ordinal looks like at a revision; order.go walks the ordinals as the set's pod management demands:
// missing ones are made, surplus ones deleted from the top, old revisions replaced from the top down to the
// partition; with OrderedReady one step at a time, each waiting for the one before. status.go counts.
package statefulset
