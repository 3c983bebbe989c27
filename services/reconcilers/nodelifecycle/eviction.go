package nodelifecycle

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/klog/v2"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/services/loop"
)

// Eviction decides which pods a node's NoExecute taints drive away.
type Eviction struct{}

// Spec declares what the reconciler reads and writes.
func (Eviction) Spec() loop.Spec {
	return loop.Spec{
		Name:     "eviction",
		Identity: loop.ServiceAccount("node-controller"), // upstream has no role for the taint-eviction-controller
		Inputs: []loop.Input{
			{Resource: "pods", Keys: ofPod},
			{Resource: "nodes", Keys: ofTaintedNode},
		},
		Outputs: []loop.Output{{Resource: "pods", Shared: true}},
		Workers: 2,
	}
}

// ofPod looks at pods that have just come to a node that drives pods away.
func ofPod(v *loop.View, c loop.Change) []events.Key {
	prev, next := loop.Pods.Of(v, c.Prev), loop.Pods.Of(v, c.Next)
	if next == nil || next.Spec.NodeName == "" {
		return nil
	}
	if prev != nil && prev.Spec.NodeName != "" && equality.Semantic.DeepEqual(prev.Spec.Tolerations, next.Spec.Tolerations) {
		return nil
	}
	if n := loop.Nodes.Get(v, "", next.Spec.NodeName); n == nil || len(executing(n)) == 0 {
		return nil
	}
	return []events.Key{c.Next.Key}
}

func ofTaintedNode(v *loop.View, c loop.Change) []events.Key {
	prev, next := loop.Nodes.Of(v, c.Prev), loop.Nodes.Of(v, c.Next)
	if next == nil || len(executing(next)) == 0 || (prev != nil && equality.Semantic.DeepEqual(executing(prev), executing(next))) {
		return nil
	}
	var out []events.Key
	for _, p := range loop.Pods.List(v, "") {
		if p.Spec.NodeName == next.Name {
			out = append(out, loop.Pods.KeyOf(p))
		}
	}
	return out
}

func executing(n *corev1.Node) []corev1.Taint {
	return slices.DeleteFunc(slices.Clone(n.Spec.Taints), func(t corev1.Taint) bool { return t.Effect != corev1.TaintEffectNoExecute })
}

// Decide decides about one pod.
func (Eviction) Decide(v *loop.View, key events.Key, now time.Time) (d loop.Decision) {
	p := loop.Pods.At(v, key)
	if p == nil || p.DeletionTimestamp != nil || p.Spec.NodeName == "" {
		return d
	}
	n := loop.Nodes.Get(v, "", p.Spec.NodeName)
	if n == nil {
		return d
	}
	for _, t := range executing(n) {
		stays, left := tolerance(p, &t, now)
		if !stays {
			d = loop.Decision{}
			d.Do(loop.Pods.Delete(p))
			return d
		}
		if left > 0 {
			d.AgainIn(left)
		}
	}
	return d
}

// tolerance says whether a pod may stay in spite of a taint, and for how long (0: for ever).
func tolerance(p *corev1.Pod, t *corev1.Taint, now time.Time) (bool, time.Duration) {
	tolerated, limited := false, false
	var shortest int64
	for i := range p.Spec.Tolerations {
		tol := &p.Spec.Tolerations[i]
		if !tol.ToleratesTaint(klog.Logger{}, t, false) {
			continue
		}
		tolerated = true
		if s := tol.TolerationSeconds; s != nil && (!limited || *s < shortest) {
			limited, shortest = true, max(*s, 0)
		}
	}
	if !tolerated || !limited {
		return tolerated, 0
	}
	since := now
	if t.TimeAdded != nil {
		since = t.TimeAdded.Time
	}
	left := since.Add(time.Duration(shortest) * time.Second).Sub(now)
	return left > 0, left
}
