// Package garbage collects what its owners leave behind, by metadata.ownerReferences, for every resource.
//
// A key is any object, and Decide looks at it from both ends. As an owner that is being deleted: with the
// finalizer "orphan" its dependents lose their reference to it, with "foregroundDeletion" it waits until no
// dependent that blocks it is left; then the finalizer goes. As a dependent: where no owner is left it is
// deleted, where some are it only loses the references to those that are gone.
//
// An owner is found by the group and kind of the reference (kinds.go), and is the owner only if its uid is
// the reference's. No discovery is asked: kinds are upstream's built-in ones and the view's own CRDs.
package garbage
