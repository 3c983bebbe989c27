// Package runc runs a pod's containers: it writes the OCI bundle, mounts the image's layers, keeps the pod's
// cgroup and drives runc through the pod's shim (node/shim), so that pods outlive the agent.
//
// It knows containers and nothing of Kubernetes objects, images, networks or the log: what to run comes in as
// plain structs ([Sandbox], [Container]), what happened goes out as [Status] and [Event]. It may touch its own
// folder (Options.Dir), the cgroup tree under the sandboxes' parents, and processes in those cgroups.
//
// How data passes through: [Runtime.OpenSandbox] makes the pod's folder, cgroup and shim; [Runtime.Run] mounts an
// overlay, writes config.json and asks the shim, which calls runc once for each container; exits come back over the
// shim's event connection as an [Event], upon which the caller asks [Runtime.Status]. Everything needed to go on
// after a restart of the agent is in the folder:
//
//	<Dir>/<pod uid>/sandbox.json        the Sandbox, with the boot it belongs to
//	<Dir>/<pod uid>/s, shim.pid, shim.log   the shim's socket, process and complaints
//	<Dir>/<pod uid>/shm                 the pod's /dev/shm
//	<Dir>/<pod uid>/runc                runc's own state
//	<Dir>/<pod uid>/c/<container id>/   container.json, config.json (OCI), rootfs, upper, work, status.json
//
// Every call is idempotent, and recovery is the normal path: a sandbox whose shim has died, or whose machine has
// been restarted, is found to be so by the next call or by the end of its event connection. Its containers are then
// killed through the cgroup and reported as exited, because nobody holds their output or knows their exit codes.
package runc
