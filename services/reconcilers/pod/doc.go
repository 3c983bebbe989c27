// Package pod ends pods for good: those that their node reports as stopped, those that were never given to a
// node, and those whose node is gone. Deleting a pod through the API only marks it; somebody who knows that
// nothing of it runs any more has to say so, and that is decided here. The deletion names the uid, so that a
// pod of the same name that came later is safe.
package pod
