// Package image keeps container images on a node: it pulls them from registries, loads them from files, packs them
// from a binary, and unpacks their layers into directories that overlay mounts use as they are.
//
// It may touch one directory and, in [Store.Pull], the network. It mounts nothing and knows nothing of containers.
//
// How data passes through: everything that an image can come from (a registry, an OCI layout, a docker archive, a
// binary) is an origin: a manifest, and blobs by digest. [Store.add] checks every byte against its digest, unpacks
// the layers that are not there yet, and names the image in the index last. What is in the index is whole.
//
//	index.json       names to images; replaced as a whole, never half written
//	blobs/sha256/    manifests and configurations
//	layers/<chain>/  unpacked layers; chain is the digest of the layer and all below it (the OCI chain ID), because
//	                 directories that a layer only implies take their owner and mode from the layers below
//	partial/<digest> layers on their way from a registry; an interrupted pull's wait here for the next try
//	tmp/             other downloads and layers in the making; anything here may vanish when nobody is adding
//	lock, adding     flocks, see lock.go: the agent and the command line use one directory at the same time
//
// Layers are compressed blobs only until they are unpacked: nothing needs them afterwards.
//
// # Trust
//
// An image is a stranger's archive that root unpacks. Every path is resolved by the kernel inside the layer
// (openat2 with RESOLVE_IN_ROOT), names with ".." are refused, devices are refused, and attributes that mean
// something to overlay mounts come from whiteouts only. The directory is closed to other users, so setuid files in
// there are no use to them.
package image
