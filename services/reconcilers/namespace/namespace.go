package namespace

import (
	"bytes"
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
			{Resource: "namespaces", Keys: loop.Itself},
			{Resource: "*", Keys: ofContent},
		},
		Outputs: []loop.Output{{Resource: "*", Shared: true}},
		Workers: 2,
	}
}

// ofContent tells a namespace that is being deleted what comes to it, what is told to go and what goes.
func ofContent(v *loop.View, c loop.Change) []events.Key {
	if c.Next.Key.Namespace == "" || (c.Prev.Exists() && !c.Gone() && (isDeleted(c.Prev) || !isDeleted(c.Next))) {
		return nil
	}
	ns := loop.Namespaces.Get(v, "", c.Next.Key.Namespace)
	if ns == nil || ns.DeletionTimestamp == nil {
		return nil
	}
	return []events.Key{loop.Namespaces.KeyOf(ns)}
}

// isDeleted says whether an object is told to go, or whether its text could be taken to say so.
func isDeleted(s events.State) bool { return bytes.Contains(s.Object, []byte(`"deletionTimestamp"`)) }

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
	// What protects or limits pods (a NetworkPolicy, a quota) must not go while they run.
	pods := slices.ContainsFunc(contents, isPod)
	var effects []loop.Effect
	for i := range contents {
		if contents[i].DeletionTimestamp == nil && len(effects) < chunk && (!pods || isPod(contents[i])) {
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

func isPod(m loop.Meta) bool { return loop.Pods.Is(m.Key) }

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
	if len(finalizers) == 0 && len(ns.Status.Conditions) == 0 {
		return // they are on their way
	}
	next := ns.DeepCopy()
	for _, c := range conditions(remaining, finalizers) {
		set(next, c, now)
	}
	if !equality.Semantic.DeepEqual(ns.Status, next.Status) {
		d.Do(loop.Namespaces.UpdateStatus(next))
	}
}

// conditions are all that a namespace's deletion has, in upstream's words. The first three tell of failures that cannot
// be here: what a namespace holds is read from the log, and a deletion that is refused is tried again.
func conditions(remaining, finalizers map[string]int) []corev1.NamespaceCondition {
	out := []corev1.NamespaceCondition{
		{Type: corev1.NamespaceDeletionDiscoveryFailure, Status: corev1.ConditionFalse, Reason: "ResourcesDiscovered", Message: "All resources successfully discovered"},
		{Type: corev1.NamespaceDeletionGVParsingFailure, Status: corev1.ConditionFalse, Reason: "ParsedGroupVersions", Message: "All legacy kube types successfully parsed"},
		{Type: corev1.NamespaceDeletionContentFailure, Status: corev1.ConditionFalse, Reason: "ContentDeleted", Message: "All content successfully deleted, may be waiting on finalization"},
		{Type: corev1.NamespaceContentRemaining, Status: corev1.ConditionTrue, Reason: "SomeResourcesRemain",
			Message: "Some resources are remaining: " + count(remaining, "%s has %d resource instances")},
		{Type: corev1.NamespaceFinalizersRemaining, Status: corev1.ConditionFalse, Reason: "ContentHasNoFinalizers", Message: "All content-preserving finalizers finished"},
	}
	if len(finalizers) > 0 {
		last := &out[len(out)-1]
		last.Status, last.Reason = corev1.ConditionTrue, "SomeFinalizersRemain"
		last.Message = "Some content in the namespace has finalizers remaining: " + count(finalizers, "%s in %d resource instances")
	}
	return out
}

func count(of map[string]int, format string) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(of)) {
		parts = append(parts, fmt.Sprintf(format, name, of[name]))
	}
	return strings.Join(parts, ", ")
}

func set(ns *corev1.Namespace, is corev1.NamespaceCondition, now time.Time) {
	is.LastTransitionTime = metav1.NewTime(now)
	for i := range ns.Status.Conditions {
		if was := &ns.Status.Conditions[i]; was.Type == is.Type {
			if was.Status == is.Status {
				is.LastTransitionTime = was.LastTransitionTime
			}
			*was = is
			return
		}
	}
	ns.Status.Conditions = append(ns.Status.Conditions, is)
}
