package namespace

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/services/loop"
)

// chunk is how many objects one decision deletes at most.
const chunk = 500

// Reconciler decides about namespaces.
type Reconciler struct{}

// Spec declares what the reconciler reads and writes: everything, as a namespace may hold anything.
func (Reconciler) Spec() loop.Spec {
	return loop.Spec{
		Name:     "namespace",
		Identity: loop.ServiceAccount("namespace-controller"),
		Inputs: []loop.Input{
			{Resource: "namespaces", Keys: func(_ *loop.View, c loop.Change) []events.Key { return []events.Key{c.Next.Key} }},
			{Resource: "*", Keys: ofContent},
		},
		Outputs: []loop.Output{{Resource: "*", Shared: true}},
		Workers: 2,
	}
}

// ofContent tells a namespace that is being deleted what comes to it and what goes.
func ofContent(v *loop.View, c loop.Change) []events.Key {
	if c.Next.Key.Namespace == "" || (c.Prev.Exists() && !c.Gone()) {
		return nil
	}
	ns := loop.Namespaces.Get(v, "", c.Next.Key.Namespace)
	if ns == nil || ns.DeletionTimestamp == nil {
		return nil
	}
	return []events.Key{loop.Namespaces.KeyOf(ns)}
}

// Decide decides about one namespace.
func (Reconciler) Decide(v *loop.View, key events.Key, now time.Time) (d loop.Decision) {
	ns := loop.Namespaces.At(v, key)
	if ns == nil || ns.DeletionTimestamp == nil {
		return d
	}
	contents := v.Contents(ns.Name)
	if len(contents) == 0 {
		finalize(&d, ns)
		return d
	}
	var effects []loop.Effect
	for i := range contents {
		if contents[i].DeletionTimestamp == nil && len(effects) < chunk {
			e := contents[i].Delete()
			e.Propagation = metav1.DeletePropagationBackground
			effects = append(effects, e)
		}
	}
	d.Do(effects...)
	if len(effects) == 0 {
		report(&d, ns, contents, now)
	}
	return d
}

func finalize(d *loop.Decision, ns *corev1.Namespace) {
	next := ns.DeepCopy()
	next.Spec.Finalizers = slices.DeleteFunc(next.Spec.Finalizers, func(f corev1.FinalizerName) bool { return f == corev1.FinalizerKubernetes })
	if len(next.Spec.Finalizers) == len(ns.Spec.Finalizers) {
		if len(ns.Finalizers) == 0 && len(ns.Spec.Finalizers) == 0 {
			d.Do(loop.Namespaces.Delete(ns))
		}
		return // others' finalizers keep it
	}
	e := loop.Namespaces.Update(next)
	e.Verb = loop.Finalize
	d.Do(e)
}

// report says what keeps the namespace, where everything has been told to go and something has finalizers.
func report(d *loop.Decision, ns *corev1.Namespace, contents []loop.Meta, now time.Time) {
	remaining, finalizers := map[string]int{}, map[string]int{}
	for _, m := range contents {
		remaining[m.Key.GroupResource()]++
		for _, f := range m.Finalizers {
			finalizers[f]++
		}
	}
	if len(finalizers) == 0 {
		return // they are on their way
	}
	next := ns.DeepCopy()
	set(next, corev1.NamespaceContentRemaining, "SomeResourcesRemain", "Some resources are remaining: "+count(remaining, "%s has %d resource instances"), now)
	set(next, corev1.NamespaceFinalizersRemaining, "SomeFinalizersRemain",
		"Some content in the namespace has finalizers remaining: "+count(finalizers, "%s in %d resource instances"), now)
	if !equality.Semantic.DeepEqual(ns.Status, next.Status) {
		d.Do(loop.Namespaces.UpdateStatus(next))
	}
}

func count(of map[string]int, format string) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(of)) {
		parts = append(parts, fmt.Sprintf(format, name, of[name]))
	}
	return strings.Join(parts, ", ")
}

func set(ns *corev1.Namespace, t corev1.NamespaceConditionType, reason, message string, now time.Time) {
	for i := range ns.Status.Conditions {
		if c := &ns.Status.Conditions[i]; c.Type == t {
			if c.Status != corev1.ConditionTrue {
				c.LastTransitionTime = metav1.NewTime(now)
			}
			c.Status, c.Reason, c.Message = corev1.ConditionTrue, reason, message
			return
		}
	}
	ns.Status.Conditions = append(ns.Status.Conditions, corev1.NamespaceCondition{Type: t, Status: corev1.ConditionTrue,
		Reason: reason, Message: message, LastTransitionTime: metav1.NewTime(now)})
}
