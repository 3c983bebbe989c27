// Package quota counts what each ResourceQuota limits.
//
// Admission, in the gateway, charges a quota for what it lets in. What it cannot see is what a quota holds
// when it is made, and what is given back: objects that are deleted, pods that end. Decide recounts then, and
// every five minutes. It does not recount when objects come: they were charged before they were on the log,
// and counting just then would hand the same room out twice. count.go knows what the names in a quota stand
// for, pods.go what a pod is charged for and which scopes it is in.
package quota
