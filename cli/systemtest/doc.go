// Package systemtest holds the tests that use Orlog as a person does: the real binaries, a real kubectl and
// helm, real containers. They carry the build tag "system" and need root.
//
// The whole package shares one cluster, in a network namespace, cgroup and folder of its own, so that it
// collides with nothing on the host and leaves nothing behind. Each test works in a Kubernetes namespace of
// its own.
package systemtest
