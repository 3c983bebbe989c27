package protection

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/services/loop"
)

const classFinalizer = "kubernetes.io/vac-protection"

// Classes decides about VolumeAttributesClasses.
type Classes struct{}

// Spec declares what the reconciler reads and writes.
func (Classes) Spec() loop.Spec {
	return loop.Spec{
		Name:     "vac-protection",
		Identity: loop.ServiceAccount("volumeattributesclass-protection-controller"),
		Inputs: []loop.Input{
			{Group: "storage.k8s.io", Resource: "volumeattributesclasses", Keys: loop.Itself},
			{Resource: "persistentvolumeclaims", Keys: func(v *loop.View, c loop.Change) []events.Key {
				return lost(classesOfClaim(loop.Claims.Of(v, c.Prev)), classesOfClaim(loop.Claims.Of(v, c.Next)))
			}},
			{Resource: "persistentvolumes", Keys: func(v *loop.View, c loop.Change) []events.Key {
				return lost(classesOfVolume(loop.Volumes.Of(v, c.Prev)), classesOfVolume(loop.Volumes.Of(v, c.Next)))
			}},
		},
		Outputs: []loop.Output{{Group: "storage.k8s.io", Resource: "volumeattributesclasses", Shared: true}},
	}
}

// lost makes the classes dirty that something had and has no more.
func lost(was, is []string) []events.Key {
	var out []events.Key
	for _, name := range was {
		if !slices.Contains(is, name) {
			out = append(out, loop.AttributesClasses.Key("", name))
		}
	}
	return out
}

// Decide decides about one VolumeAttributesClass.
func (Classes) Decide(v *loop.View, key events.Key, _ time.Time) (d loop.Decision) {
	class := loop.AttributesClasses.At(v, key)
	if class == nil || !awaited(class, classFinalizer) {
		return d
	}
	for _, pv := range loop.Volumes.List(v, "") {
		if slices.Contains(classesOfVolume(pv), class.Name) {
			return d
		}
	}
	for _, c := range loop.Claims.List(v, "") {
		if slices.Contains(classesOfClaim(c), class.Name) {
			return d
		}
	}
	d.Do(loop.AttributesClasses.Update(without(class.DeepCopy(), classFinalizer)))
	return d
}

// classesOfClaim are the classes that a claim asks for, has, or is being changed to; c may be nil.
func classesOfClaim(c *corev1.PersistentVolumeClaim) (out []string) {
	if c == nil {
		return nil
	}
	for _, name := range []*string{c.Spec.VolumeAttributesClassName, c.Status.CurrentVolumeAttributesClassName} {
		if name != nil && *name != "" {
			out = append(out, *name)
		}
	}
	if s := c.Status.ModifyVolumeStatus; s != nil && s.TargetVolumeAttributesClassName != "" {
		out = append(out, s.TargetVolumeAttributesClassName)
	}
	return out
}

// classesOfVolume is the class that a volume has; pv may be nil.
func classesOfVolume(pv *corev1.PersistentVolume) []string {
	if pv == nil || pv.Spec.VolumeAttributesClassName == nil || *pv.Spec.VolumeAttributesClassName == "" {
		return nil
	}
	return []string{*pv.Spec.VolumeAttributesClassName}
}
