package protection

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/services/loop"
	"github.com/orlog-io/orlog/services/reconcilers/replica"
)

const claimFinalizer = "kubernetes.io/pvc-protection"

// Claims decides about PersistentVolumeClaims.
type Claims struct{}

// Spec declares what the reconciler reads and writes.
func (Claims) Spec() loop.Spec {
	return loop.Spec{
		Name:     "pvc-protection",
		Identity: loop.ServiceAccount("pvc-protection-controller"),
		Inputs: []loop.Input{
			{Resource: "persistentvolumeclaims", Keys: loop.Itself},
			{Resource: "pods", Keys: ofPod},
		},
		Outputs: []loop.Output{{Resource: "persistentvolumeclaims", Shared: true}},
	}
}

// ofPod makes the claims dirty that a pod may have been the last to use.
func ofPod(v *loop.View, c loop.Change) []events.Key {
	was := loop.Pods.Of(v, c.Prev)
	if was == nil || was.Spec.NodeName == "" {
		return nil
	}
	if is := loop.Pods.Of(v, c.Next); is != nil && is.UID == was.UID && !replica.Finished(is) {
		return nil
	}
	var out []events.Key
	for i := range was.Spec.Volumes {
		if name := claimOf(was, &was.Spec.Volumes[i]); name != "" {
			out = append(out, loop.Claims.Key(was.Namespace, name))
		}
	}
	return out
}

// claimOf is the claim that a volume of a pod names, or that was made for it; "" where there is none.
func claimOf(p *corev1.Pod, volume *corev1.Volume) string {
	switch {
	case volume.PersistentVolumeClaim != nil:
		return volume.PersistentVolumeClaim.ClaimName
	case volume.Ephemeral != nil:
		return p.Name + "-" + volume.Name
	}
	return ""
}

// Decide decides about one PersistentVolumeClaim.
func (Claims) Decide(v *loop.View, key events.Key, _ time.Time) (d loop.Decision) {
	c := loop.Claims.At(v, key)
	if c == nil || !awaited(c, claimFinalizer) {
		return d
	}
	for _, p := range loop.Pods.List(v, c.Namespace) {
		if uses(p, c) {
			return d
		}
	}
	d.Do(loop.Claims.Update(without(c.DeepCopy(), claimFinalizer)))
	return d
}

// uses: a pod without a node will not start on a claim that is deleted, so it does not count. A claim that was made for
// the pod itself is let go with what runs of the pod.
func uses(p *corev1.Pod, c *corev1.PersistentVolumeClaim) bool {
	if p.Spec.NodeName == "" {
		return false
	}
	for i := range p.Spec.Volumes {
		volume := &p.Spec.Volumes[i]
		if claimOf(p, volume) != c.Name {
			continue
		}
		if volume.Ephemeral == nil || metav1.IsControlledBy(c, p) && !replica.Finished(p) {
			return true
		}
	}
	return false
}
