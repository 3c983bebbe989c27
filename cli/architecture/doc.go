// Package architecture holds the test that enforces the import rules between the rooms: which top-level
// folder may import which, and which package alone may import NATS, Pebble or the Kubernetes API server.
package architecture
