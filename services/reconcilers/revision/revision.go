// Package revision keeps the history of a pod template as ControllerRevisions, as DaemonSets and
// StatefulSets do and kubectl rollout reads it. Pure: it returns what to write.
package revision

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/rand"

	"github.com/orlog-io/orlog/services/loop"
	"github.com/orlog-io/orlog/services/reconcilers/claim"
)

// Label names the revision that a pod or a ControllerRevision is of.
const Label = appsv1.ControllerRevisionHashLabelKey

// Owner is a controller with a pod template.
type Owner struct {
	metav1.Object
	Ref        metav1.OwnerReference
	Selector   *metav1.LabelSelector
	Template   *corev1.PodTemplateSpec
	Collisions *int32
}

// History is an owner's revisions, oldest first.
type History struct {
	All []*appsv1.ControllerRevision
	// Current is the revision of the owner's template: one of All, or new and among Effects.
	Current *appsv1.ControllerRevision
	// Effects bring the history up to date.
	Effects []loop.Effect
	// Collided: the name of the new revision is taken by something else; raise the owner's collision count.
	Collided bool
}

// Of reads an owner's history and plans what its present template adds.
func Of(v *loop.View, o Owner) (History, error) {
	var h History
	selector, err := metav1.LabelSelectorAsSelector(o.Selector)
	if err != nil {
		return h, fmt.Errorf("selector of %s: %w", o.GetName(), err)
	}
	h.All, h.Effects = claim.Of(v, loop.Revisions, o.Object, o.Ref, selector, nil)
	h.All = slices.Clone(h.All)
	slices.SortStableFunc(h.All, func(a, b *appsv1.ControllerRevision) int {
		return cmp.Or(cmp.Compare(a.Revision, b.Revision), a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
	data, err := dataOf(o.Template)
	if err != nil {
		return h, fmt.Errorf("template of %s: %w", o.GetName(), err)
	}
	var last int64
	for _, r := range h.All {
		last = max(last, r.Revision)
		if bytes.Equal(canonical(r.Data.Raw), canonical(data)) {
			h.Current = r
		}
	}
	switch {
	case h.Current == nil:
		h.add(v, o, data, last+1)
	case h.Current.Revision != last: // rolled back: it becomes the newest
		next := h.Current.DeepCopy()
		next.Revision = last + 1
		h.Effects = append(h.Effects, loop.Revisions.Update(next))
	}
	return h, nil
}

func (h *History) add(v *loop.View, o Owner, data []byte, number int64) {
	hash := hashOf(data, o.Collisions)
	base := o.GetName()
	if len(base) > 223 {
		base = base[:223]
	}
	name := base + "-" + hash
	if loop.Revisions.Get(v, o.GetNamespace(), name) != nil {
		h.Collided = true
		return
	}
	tags := maps.Clone(o.Template.Labels)
	if tags == nil {
		tags = labels.Set{}
	}
	tags[Label] = hash
	h.Current = &appsv1.ControllerRevision{
		ObjectMeta: metav1.ObjectMeta{Namespace: o.GetNamespace(), Name: name, Labels: tags, Annotations: maps.Clone(o.GetAnnotations()),
			OwnerReferences: []metav1.OwnerReference{o.Ref}},
		Data: runtime.RawExtension{Raw: data}, Revision: number,
	}
	delete(h.Current.Annotations, corev1.LastAppliedConfigAnnotation)
	h.Effects = append(h.Effects, loop.Revisions.Create(h.Current))
}

// Trim plans the removal of the oldest revisions beyond limit that no pod uses.
func (h *History) Trim(limit *int32, live map[string]bool) {
	if limit == nil {
		return
	}
	var idle []*appsv1.ControllerRevision
	for _, r := range h.All {
		if r != h.Current && !live[r.Name] && !live[r.Labels[Label]] {
			idle = append(idle, r)
		}
	}
	for _, r := range idle[:max(0, len(idle)-int(*limit))] {
		h.Effects = append(h.Effects, loop.Revisions.Delete(r))
	}
}

// Template reads the pod template that a revision holds.
func Template(r *appsv1.ControllerRevision) (*corev1.PodTemplateSpec, error) {
	var data struct {
		Spec struct {
			Template corev1.PodTemplateSpec `json:"template"`
		} `json:"spec"`
	}
	if err := json.Unmarshal(r.Data.Raw, &data); err != nil {
		return nil, fmt.Errorf("data of revision %s: %w", r.Name, err)
	}
	return &data.Spec.Template, nil
}

// dataOf is the patch that puts a template back, which is what kubectl rollout undo applies.
func dataOf(t *corev1.PodTemplateSpec) ([]byte, error) {
	b, err := json.Marshal(t)
	if err != nil {
		return nil, err
	}
	var template map[string]any
	if err := json.Unmarshal(b, &template); err != nil {
		return nil, err
	}
	template["$patch"] = "replace"
	return json.Marshal(map[string]any{"spec": map[string]any{"template": template}})
}

// canonical spells JSON in one way.
func canonical(b []byte) []byte {
	var o any
	if json.Unmarshal(b, &o) != nil {
		return b
	}
	out, err := json.Marshal(o)
	if err != nil {
		return b
	}
	return out
}

func hashOf(data []byte, collisions *int32) string {
	h := fnv.New32a()
	h.Write(data)
	if collisions != nil {
		h.Write(binary.LittleEndian.AppendUint32(nil, uint32(*collisions)))
	}
	return rand.SafeEncodeString(strconv.FormatUint(uint64(h.Sum32()), 10))
}
