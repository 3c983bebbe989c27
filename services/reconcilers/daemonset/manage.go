package daemonset

import (
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
	"k8s.io/klog/v2"

	"github.com/orlog-io/orlog/services/loop"
	"github.com/orlog-io/orlog/services/reconcilers/replica"
	"github.com/orlog-io/orlog/services/reconcilers/revision"
)

// failedRest is how long a failed pod is left before it is replaced, so that one that fails at once does not
// keep the control plane busy.
const failedRest = time.Second

// admits says whether a node must run a pod of the set, and whether a pod that is there may stay.
func (r *round) admits(n *corev1.Node) (run, stay bool) {
	p := &corev1.Pod{Spec: *r.ds.Spec.Template.Spec.DeepCopy()}
	if p.Spec.NodeName != "" && p.Spec.NodeName != n.Name {
		return false, false
	}
	if ok, err := nodeaffinity.GetRequiredNodeAffinity(p).Match(n); !ok || err != nil {
		return false, false
	}
	tolerate(&p.Spec)
	run, stay = true, true
	for i := range n.Spec.Taints {
		t := &n.Spec.Taints[i]
		if t.Effect == corev1.TaintEffectPreferNoSchedule || tolerated(p, t) {
			continue
		}
		run = false
		if t.Effect == corev1.TaintEffectNoExecute {
			stay = false
		}
	}
	return run, stay
}

func tolerated(p *corev1.Pod, t *corev1.Taint) bool {
	for i := range p.Spec.Tolerations {
		if p.Spec.Tolerations[i].ToleratesTaint(klog.Logger{}, t, false) {
			return true
		}
	}
	return false
}

// tolerate adds what every daemon tolerates: it stays on a node in trouble, as it may be there to help.
func tolerate(s *corev1.PodSpec) {
	add := func(key string, effect corev1.TaintEffect) {
		want := corev1.Toleration{Key: key, Operator: corev1.TolerationOpExists, Effect: effect}
		for i := range s.Tolerations {
			if s.Tolerations[i].MatchToleration(&want) {
				return
			}
		}
		s.Tolerations = append(s.Tolerations, want)
	}
	add(corev1.TaintNodeNotReady, corev1.TaintEffectNoExecute)
	add(corev1.TaintNodeUnreachable, corev1.TaintEffectNoExecute)
	for _, key := range []string{corev1.TaintNodeDiskPressure, corev1.TaintNodeMemoryPressure, corev1.TaintNodePIDPressure, corev1.TaintNodeUnschedulable} {
		add(key, corev1.TaintEffectNoSchedule)
	}
	if s.HostNetwork {
		add(corev1.TaintNodeNetworkUnavailable, corev1.TaintEffectNoSchedule)
	}
}

// manage makes the pods that are missing and deletes those that should not be; true: it did.
func (r *round) manage() bool {
	var effects []loop.Effect
	known := map[string]bool{}
	for _, n := range r.nodes {
		known[n.Name] = true
		run, stay := r.admits(n)
		pods := r.on[n.Name]
		switch {
		case run && len(pods) == 0:
			effects = append(effects, r.create(n.Name))
		case !stay:
			effects = append(effects, remove(pods...)...)
		default:
			effects = append(effects, r.tidy(pods)...)
		}
	}
	for _, node := range slices.Sorted(maps.Keys(r.on)) {
		if !known[node] { // never to be bound: the node it was made for is gone
			for _, p := range r.on[node] {
				if p.Spec.NodeName == "" {
					effects = append(effects, remove(p)...)
				}
			}
		}
	}
	r.out.Do(effects...)
	return len(effects) > 0
}

// tidy deletes pods that are over, and all but the oldest where several live and none replaces another.
func (r *round) tidy(pods []*corev1.Pod) []loop.Effect {
	var out []loop.Effect
	var living []*corev1.Pod
	for _, p := range pods {
		switch {
		case p.DeletionTimestamp != nil:
		case replica.Finished(p):
			if left := p.CreationTimestamp.Add(failedRest).Sub(r.now); left > 0 {
				r.out.AgainIn(left)
			} else {
				out = append(out, remove(p)...)
			}
		default:
			living = append(living, p)
		}
	}
	if _, surge := r.bounds(0); surge == 0 && len(living) > 1 {
		out = append(out, remove(living[1:]...)...)
	}
	return out
}

func remove(pods ...*corev1.Pod) []loop.Effect {
	var out []loop.Effect
	for _, p := range pods {
		if p.DeletionTimestamp == nil {
			out = append(out, loop.Pods.Delete(p))
		}
	}
	return out
}

// create makes the pod for a node; the scheduler binds it, as it may go nowhere else.
func (r *round) create(node string) loop.Effect {
	p := replica.NewPod(&r.ds.Spec.Template, r.ds.Namespace, r.names.Next(), r.ds.Name+"-", r.ref)
	if p.Labels == nil {
		p.Labels = map[string]string{}
	}
	p.Labels[revision.Label] = r.hash
	if g := r.ds.Annotations["deprecated.daemonset.template.generation"]; g != "" {
		p.Labels["pod-template-generation"] = g
	}
	tolerate(&p.Spec)
	pin(&p.Spec, node)
	return loop.Pods.Create(p)
}

// pin replaces what the template requires of nodes by the node itself, which the template has admitted.
func pin(s *corev1.PodSpec, node string) {
	if s.Affinity == nil {
		s.Affinity = &corev1.Affinity{}
	}
	if s.Affinity.NodeAffinity == nil {
		s.Affinity.NodeAffinity = &corev1.NodeAffinity{}
	}
	s.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution = &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
		MatchFields: []corev1.NodeSelectorRequirement{{Key: metav1.ObjectNameField, Operator: corev1.NodeSelectorOpIn, Values: []string{node}}}}}}
}
