package protection

import (
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/services/loop"
)

const volumeFinalizer = "kubernetes.io/pv-protection"

// Volumes decides about PersistentVolumes.
type Volumes struct{}

// Spec declares what the reconciler reads and writes.
func (Volumes) Spec() loop.Spec {
	return loop.Spec{
		Name:     "pv-protection",
		Identity: loop.ServiceAccount("pv-protection-controller"),
		Inputs:   []loop.Input{{Resource: "persistentvolumes", Keys: loop.Itself}},
		Outputs:  []loop.Output{{Resource: "persistentvolumes", Shared: true}},
	}
}

// Decide decides about one PersistentVolume.
func (Volumes) Decide(v *loop.View, key events.Key, _ time.Time) (d loop.Decision) {
	pv := loop.Volumes.At(v, key)
	if pv != nil && awaited(pv, volumeFinalizer) && pv.Status.Phase != corev1.VolumeBound {
		d.Do(loop.Volumes.Update(without(pv.DeepCopy(), volumeFinalizer)))
	}
	return d
}
