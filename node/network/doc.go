// Package network gives every pod its own network namespace and an address in it.
//
// It drives CNI plugins (bridge and host-local) through libcni, owns one bridge and one nftables table of the
// host, and keeps everything it must remember under one directory. It may touch: that directory, the network
// namespaces it pins in there, its bridge and its table, and the sysctls named in host.go. It knows nothing of
// containers, services or the log.
//
// How data passes through: [Manager.Setup] takes a pod's UID and returns where its namespace is pinned and which
// addresses it got; [Manager.Teardown] gives all of it back. Both are idempotent, and a record on disk is written
// before anything is made and removed after everything is undone, so that a crash anywhere leaves at worst a
// record whose sandbox is incomplete: the next [New] removes it, addresses included.
//
// # The sandbox
//
// A sandbox is a network namespace with lo up and eth0 attached to the bridge. Making one costs two processes
// (about 15 ms), so [Manager.Run] keeps a few ready that belong to nobody; Setup then only writes the owner's
// name into a record. Sandboxes are pinned as bind mounts under Options.Dir rather than /run/netns, so that two
// agents on one machine never meet.
//
// # Why pods do not talk over the bridge directly
//
// A service's traffic is rewritten (DNAT) by the host's IP layer. If the chosen endpoint sits on the same bridge
// as the client, its answer would go straight through the bridge, past the rewriting, and the client would get
// an answer from an address it never called. Setting br_netfilter repairs that, but it belongs to the whole host.
// Instead the connected route of eth0 is replaced by one to the gateway alone, so every packet of a pod goes to
// the host's IP layer first: services work, and policies see everything, whatever br_netfilter says, and the
// client's address stays visible to the server.
package network
