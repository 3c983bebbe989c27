// Package protection lets go of storage that was deleted while it was in use: a PersistentVolumeClaim when no pod that
// was given to a node names it any more, a PersistentVolume when it is bound to no claim, a VolumeAttributesClass when
// no claim and no volume has it. Admission gives each of them a finalizer when it is created; here it is taken off.
package protection
