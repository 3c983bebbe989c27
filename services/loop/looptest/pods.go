package looptest

import (
	"math/rand/v2"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/orlog-io/orlog/services/loop"
)

// Kubelet moves pods on at random, as nodes would.
type Kubelet struct {
	*World
	Random *rand.Rand
	// Broken is an image whose pods never become ready; Node says where a pod goes (nil: "n1").
	Broken string
	Node   func(*corev1.Pod) string
}

// Pods are all pods as they are.
func (k *Kubelet) Pods() []*corev1.Pod { return loop.Pods.List(k.View(), "") }

// Step starts one pod or ends one that is to go; false: there is none.
func (k *Kubelet) Step() bool {
	pods := k.Pods()
	for _, i := range k.Random.Perm(len(pods)) {
		p := pods[i]
		key := loop.Pods.KeyOf(p)
		if p.DeletionTimestamp != nil {
			if len(p.Finalizers) == 0 {
				k.Remove(key)
				return true
			}
			if p.Status.Phase != corev1.PodFailed && p.Status.Phase != corev1.PodSucceeded {
				k.End(p, 137)
				return true
			}
			continue
		}
		if p.Status.Phase != "" && p.Status.Phase != corev1.PodPending || p.Spec.Containers[0].Image == k.Broken {
			continue
		}
		bound := p.DeepCopy()
		bound.Spec.NodeName = "n1"
		if k.Node != nil {
			bound.Spec.NodeName = k.Node(p)
		}
		k.Put(key, bound)
		k.Report(key, corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{
			{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(k.Now())}}})
		return true
	}
	return false
}

// End reports that a pod's container has ended with an exit code.
func (k *Kubelet) End(p *corev1.Pod, code int32) {
	phase := corev1.PodSucceeded
	if code != 0 {
		phase = corev1.PodFailed
	}
	k.Report(loop.Pods.KeyOf(p), corev1.PodStatus{Phase: phase, ContainerStatuses: []corev1.ContainerStatus{{Name: p.Spec.Containers[0].Name,
		State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code, FinishedAt: metav1.NewTime(k.Now())}}}}})
}

// Settle lets kubelet and deciders take turns at random until nothing is left to do; check looks on. It
// fails the test after too many steps.
func (k *Kubelet) Settle(check func(), decide ...func() bool) {
	k.t.Helper()
	moves := append([]func() bool{k.Step}, decide...)
	for range 5000 {
		moved := false
		for _, i := range k.Random.Perm(len(moves)) {
			if moved = moves[i](); moved {
				break
			}
		}
		if !moved {
			return
		}
		if check != nil {
			check()
		}
	}
	k.t.Fatal("it does not settle")
}
