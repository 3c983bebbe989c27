// Package replica holds what every controller of pods shares: when a pod counts as active, ready and
// available, how a pod is made from a template, and how its name derives from the causing event. Pure.
package replica
