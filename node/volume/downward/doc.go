// Package downward reads fields of a pod as text, for environment variables and volumes (the downward API). It is
// pure.
package downward
