package statefulset

import (
	"fmt"
	"maps"
	"slices"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/orlog-io/orlog/services/loop"
	"github.com/orlog-io/orlog/services/reconcilers/replica"
	"github.com/orlog-io/orlog/services/reconcilers/revision"
)

// make plans the pod of an ordinal, and the claims that it needs and that do not exist yet.
func (r *round) make(i int) []loop.Effect {
	rev := r.revisionFor(i)
	template, err := revision.Template(rev)
	if err != nil {
		r.v.Fail(err)
		return nil
	}
	ordinal := r.start + i
	name := fmt.Sprintf("%s-%d", r.set.Name, ordinal)
	p := replica.NewPod(template, r.set.Namespace, name, "", r.ref)
	if p.Labels == nil {
		p.Labels = map[string]string{}
	}
	p.Labels[appsv1.StatefulSetPodNameLabel] = name
	p.Labels[appsv1.PodIndexLabel] = strconv.Itoa(ordinal)
	p.Labels[revision.Label] = rev.Name
	p.Spec.Hostname, p.Spec.Subdomain = name, r.set.Spec.ServiceName
	var out []loop.Effect
	for i := range r.set.Spec.VolumeClaimTemplates {
		t := &r.set.Spec.VolumeClaimTemplates[i]
		c := claimOf(r.set, t, name)
		if loop.Claims.Get(r.v, c.Namespace, c.Name) == nil {
			out = append(out, loop.Claims.Create(c))
		}
		mount(&p.Spec, t.Name, c.Name)
	}
	return append(out, loop.Pods.Create(p))
}

// revisionFor is the revision that a new pod of an ordinal has: below the partition, and while a rollout
// under way has not come to it, the current one.
func (r *round) revisionFor(i int) *appsv1.ControllerRevision {
	u := r.set.Spec.UpdateStrategy
	if u.Type == appsv1.OnDeleteStatefulSetStrategyType {
		return r.update
	}
	if u.RollingUpdate == nil || u.RollingUpdate.Partition == nil {
		if i < int(r.set.Status.CurrentReplicas) {
			return r.current
		}
		return r.update
	}
	if i < r.partition() {
		return r.current
	}
	return r.update
}

// partition is the index below which pods are not updated.
func (r *round) partition() int {
	if u := r.set.Spec.UpdateStrategy.RollingUpdate; u != nil && u.Partition != nil {
		return max(0, int(*u.Partition)-r.start)
	}
	return 0
}

func claimOf(set *appsv1.StatefulSet, t *corev1.PersistentVolumeClaim, pod string) *corev1.PersistentVolumeClaim {
	c := t.DeepCopy()
	c.ObjectMeta = metav1.ObjectMeta{Namespace: set.Namespace, Name: t.Name + "-" + pod, Labels: maps.Clone(t.Labels), Annotations: maps.Clone(t.Annotations)}
	if c.Labels == nil {
		c.Labels = map[string]string{}
	}
	maps.Copy(c.Labels, set.Spec.Selector.MatchLabels)
	c.Status = corev1.PersistentVolumeClaimStatus{}
	return c
}

// mount makes a claim a volume of the pod, in place of a volume of the same name.
func mount(s *corev1.PodSpec, volume, claimName string) {
	s.Volumes = slices.DeleteFunc(s.Volumes, func(v corev1.Volume) bool { return v.Name == volume })
	s.Volumes = append(s.Volumes, corev1.Volume{Name: volume, VolumeSource: corev1.VolumeSource{
		PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claimName}}})
}
