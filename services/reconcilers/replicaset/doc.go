// Package replicaset keeps as many pods alive as a ReplicaSet asks for, and reports how many there are.
//
// Decide reads the ReplicaSet, the pods it controls and the orphans that its selector matches; it adopts and
// releases by package claim, creates or deletes the difference (deleting first what hurts least, by
// upstream's ranking) and writes the status. It needs no expectations: the loop decides a key only on a view
// that holds the key's own last writes.
package replicaset
