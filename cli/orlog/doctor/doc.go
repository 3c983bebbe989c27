// Package doctor checks whether a machine is fit to run Orlog: its kernel, cgroups, disk, clock, ports and
// binaries, and what an Orlog that no longer runs has left behind.
//
// A check gives one Finding: ok, a warning (Orlog runs, but...) or a problem (it does not), each but the first
// with what to do. Checks read /proc and /sys under machine.root, so that tests can give them a machine of
// files; what only an attempt can tell (mounting an overlay, making links, loading nftables rules) goes through
// the attempts interface and is done in namespaces of its own, which end with the attempt: the machine is as it
// was before.
package doctor
