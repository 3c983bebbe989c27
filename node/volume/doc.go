// Package volume makes the volumes of pods on a node: emptyDir, hostPath, configMap, secret, downwardAPI,
// projected and image. Persistent volume claims are refused with a clear error.
//
// How data passes through: the agent calls [Manager.Setup] once a pod's network is there; every volume becomes a
// folder <dir>/<pod uid>/volumes/<name> (hostPath: the path itself), whose address [Manager.Path] tells. What
// comes from configMaps, secrets, fields or tokens is written as the kubelet writes it: into a fresh folder that a
// symbolic link ..data is switched to, so that a container sees all of a version or none of it.
// [Manager.Refresh] writes again what has changed. [Manager.SubPath] gives a container one path inside a volume,
// resolved so that no symbolic link leads out of it. [Manager.Teardown] unmounts and removes everything.
//
// Secrets and tokens are kept in memory (tmpfs), never on disk. The package touches its folder, hostPaths, and
// what its Sources reach; it keeps no state of its own, so that it needs none after a restart.
package volume
