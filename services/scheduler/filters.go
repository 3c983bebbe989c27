package scheduler

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
	"k8s.io/klog/v2"
)

// Reasons why a node is refused: upstream's words, which users search for.
const (
	reasonUnschedulable = "node(s) were unschedulable"
	reasonName          = "node(s) didn't match the requested node name"
	reasonTaint         = "node(s) had untolerated taint(s)"
	reasonNodeAffinity  = "node(s) didn't match Pod's node affinity/selector"
	reasonPorts         = "node(s) didn't have free ports for the requested pod ports"
	reasonTooManyPods   = "Too many pods"
	reasonSpread        = "node(s) didn't match pod topology spread constraints"
	reasonSpreadLabel   = reasonSpread + " (missing required label)"
	reasonAffinity      = "node(s) didn't match pod affinity rules"
	reasonAntiAffinity  = "node(s) didn't match pod anti-affinity rules"
	reasonExistingAnti  = "node(s) didn't satisfy existing pods anti-affinity rules"
)

// ask is one pod's question to all nodes: what does not depend on the node is worked out once.
type ask struct {
	s        *snapshot
	pod      *corev1.Pod
	requests amounts
	guess    amounts
	ports    []port
	node     nodeaffinity.RequiredNodeAffinity
	spread   []*spreadConstraint
	affinity *affinity
}

func (s *snapshot) ask(p *corev1.Pod) *ask {
	a := &ask{s: s, pod: p, requests: requests(p), ports: portsOf(p), node: nodeaffinity.GetRequiredNodeAffinity(p)}
	a.guess = guessed(p, a.requests)
	a.spread = a.spreadConstraints()
	a.affinity = a.podAffinity()
	return a
}

// filters in the order in which they are asked; the first that refuses a node explains it.
var filters = []struct {
	name string
	fits func(*ask, *nodeInfo) []string
}{
	{"NodeUnschedulable", (*ask).schedulable},
	{"NodeName", (*ask).named},
	{"TaintToleration", (*ask).tolerates},
	{"NodeAffinity", (*ask).attracted},
	{"NodePorts", (*ask).portsFree},
	{"NodeResourcesFit", (*ask).fits},
	{"PodTopologySpread", (*ask).spreads},
	{"InterPodAffinity", (*ask).along},
}

// filter asks all filters about a node: the name and the reasons of the first that refuses, or none.
func (a *ask) filter(n *nodeInfo) (string, []string) {
	n = a.kept(n)
	for _, f := range filters {
		if reasons := f.fits(a, n); len(reasons) > 0 {
			return f.name, reasons
		}
	}
	return "", nil
}

var unschedulableTaint = corev1.Taint{Key: corev1.TaintNodeUnschedulable, Effect: corev1.TaintEffectNoSchedule}

func (a *ask) schedulable(n *nodeInfo) []string {
	if n.node.Spec.Unschedulable && !a.tolerated(&unschedulableTaint) {
		return []string{reasonUnschedulable}
	}
	return nil
}

func (a *ask) named(*nodeInfo) []string { return nil } // a pending pod names no node

func (a *ask) tolerates(n *nodeInfo) []string {
	for i := range n.node.Spec.Taints {
		t := &n.node.Spec.Taints[i]
		if (t.Effect == corev1.TaintEffectNoSchedule || t.Effect == corev1.TaintEffectNoExecute) && !a.tolerated(t) {
			return []string{reasonTaint}
		}
	}
	return nil
}

func (a *ask) tolerated(t *corev1.Taint) bool {
	for i := range a.pod.Spec.Tolerations {
		if a.pod.Spec.Tolerations[i].ToleratesTaint(klog.Logger{}, t, false) {
			return true
		}
	}
	return false
}

func (a *ask) attracted(n *nodeInfo) []string {
	if ok, err := a.node.Match(n.node); !ok || err != nil {
		return []string{reasonNodeAffinity}
	}
	return nil
}

func (a *ask) portsFree(n *nodeInfo) []string {
	if slices.ContainsFunc(a.ports, n.taken) {
		return []string{reasonPorts}
	}
	return nil
}

// fits lists every resource that is too short, as all of them matter to who reads the message.
func (a *ask) fits(n *nodeInfo) []string {
	var short []string
	if int64(len(n.pods))+1 > n.room[corev1.ResourcePods] {
		short = append(short, reasonTooManyPods)
	}
	for name, want := range a.requests {
		if want > 0 && want > n.room[name]-n.used[name] {
			short = append(short, fmt.Sprintf("Insufficient %s", name))
		}
	}
	slices.Sort(short)
	return short
}
