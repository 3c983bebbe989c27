package replica

import (
	"encoding/binary"
	"hash/fnv"
	"maps"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/orlog-io/orlog/services/loop"
)

// Active says whether a pod counts as a replica: neither finished nor being deleted.
func Active(p *corev1.Pod) bool {
	return !Finished(p) && p.DeletionTimestamp == nil
}

// Finished says whether all of a pod's containers have ended for good.
func Finished(p *corev1.Pod) bool {
	return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
}

// Ready returns the pod's Ready condition where it is true, else nil.
func Ready(p *corev1.Pod) *corev1.PodCondition {
	for i := range p.Status.Conditions {
		if c := &p.Status.Conditions[i]; c.Type == corev1.PodReady {
			if c.Status == corev1.ConditionTrue {
				return c
			}
			return nil
		}
	}
	return nil
}

// Available says whether a pod has been ready for minReadySeconds, and if it is ready but not yet available,
// how long it still takes.
func Available(p *corev1.Pod, minReadySeconds int32, now time.Time) (bool, time.Duration) {
	c := Ready(p)
	if c == nil {
		return false, 0
	}
	if minReadySeconds == 0 {
		return true, 0
	}
	if c.LastTransitionTime.IsZero() {
		return false, 0
	}
	left := c.LastTransitionTime.Add(time.Duration(minReadySeconds) * time.Second).Sub(now)
	return left <= 0, max(left, 0)
}

// NewPod makes a pod from a template for an owner.
func NewPod(t *corev1.PodTemplateSpec, namespace, name, generateName string, owner metav1.OwnerReference) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace, Name: name, GenerateName: generateName,
			Labels: maps.Clone(t.Labels), Annotations: maps.Clone(t.Annotations), Finalizers: slices.Clone(t.Finalizers),
			OwnerReferences: []metav1.OwnerReference{owner},
		},
		Spec: *t.Spec.DeepCopy(),
	}
}

// suffixes is the alphabet of generated names, as upstream's: no vowels, no look-alikes.
const suffixes = "bcdfghjklmnpqrstvwxz2456789"

// maxBase leaves room for the suffix in a name of 63 bytes.
const maxBase = 63 - suffixLength

const suffixLength = 5

// Namer gives names of new objects, derived from an owner's uid, the causing event and a counter. It skips
// names that the view has ever known, so a decision that is repeated after half of it was done goes on where
// it stopped, and one that is repeated because the outcome is unknown asks for the same names again.
type Namer struct {
	view *loop.View
	key  func(name string) bool
	base string
	seed string
	next uint64
}

// Names makes a Namer for objects of a resource. base is the whole prefix, such as "web-7d4b9-".
func Names[T any](v *loop.View, r loop.Resource[T], namespace, base string, uid string) *Namer {
	if len(base) > maxBase {
		base = base[:maxBase]
	}
	known := func(name string) bool { return v.Known(r.Key(namespace, name)) }
	return &Namer{view: v, key: known, base: base, seed: uid + "/" + strconv.FormatUint(uint64(v.Cause.Sequence), 10)}
}

// Next returns the next unused name.
func (n *Namer) Next() string {
	for {
		name := n.base + Suffix(n.seed, n.next)
		n.next++
		if n.view.Err() != nil || !n.key(name) {
			return name
		}
	}
}

// Suffix derives five characters from a seed and a counter.
func Suffix(seed string, i uint64) string {
	h := fnv.New64a()
	h.Write([]byte(seed))
	h.Write(binary.BigEndian.AppendUint64(nil, i))
	x := h.Sum64()
	x ^= x >> 32 // fnv's low bits depend little on the last bytes: fold and stir them
	x *= 0x9e3779b97f4a7c15
	x ^= x >> 29
	var out [suffixLength]byte
	for j := range out {
		out[j] = suffixes[x%uint64(len(suffixes))]
		x /= uint64(len(suffixes))
	}
	return string(out[:])
}
