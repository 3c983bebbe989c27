// Package runctest gives system tests what they need to run real containers: the runc and shim binaries, built
// from this module, and a small root file system. It is for tests alone; nothing of the product imports it.
package runctest
