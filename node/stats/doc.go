// Package stats reads what containers and pods use of CPU and memory, from their cgroups, version 1 or 2.
//
// [New] finds out which hierarchies the machine has. [Reader.Read] takes a cgroup's path below the hierarchies' roots,
// as node/runc gives it, and returns its [Usage] as of now. Nothing is kept between calls: rates are for the caller,
// from two readings. It reads files below /sys/fs/cgroup and writes nothing.
package stats
