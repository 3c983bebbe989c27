package reconcilers_test

import (
	"fmt"
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/orlog-io/orlog/services/loop"
)

// TestDeletionsEnd deletes what others hold in ways that once never came to an end.
func TestDeletionsEnd(t *testing.T) {
	c := newControlPlane(t)
	c.addNode("n1")
	for name, test := range map[string]func(*controlPlane){
		"job": (*controlPlane).deleteRunningJob, "circle": (*controlPlane).deleteCircle,
		"namespace": (*controlPlane).deleteHeldNamespace, "claim": (*controlPlane).deleteUsedClaim,
	} {
		t.Run(name, func(t *testing.T) { c.t = t; test(c) })
	}
}

func (c *controlPlane) podOf(name string, volumes ...corev1.Volume) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.PodSpec{Volumes: volumes, Containers: []corev1.Container{{Name: "c", Image: "v1"}}}}
}

// deleteRunningJob: the Job is gone at once, its pods keep the finalizer that it would have taken off.
func (c *controlPlane) deleteRunningJob() {
	jobs := c.client.BatchV1().Jobs("default")
	_, err := jobs.Create(c.ctx, &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: "endless"}, Spec: batchv1.JobSpec{Parallelism: new(int32(2)), Template: corev1.PodTemplateSpec{
		Spec: corev1.PodSpec{RestartPolicy: corev1.RestartPolicyNever, Containers: []corev1.Container{{Name: "c", Image: "v1"}}}}}}, metav1.CreateOptions{})
	c.must(err)
	running := func(v *loop.View) (n int) {
		for _, p := range loop.Pods.List(v, "default") {
			if p.Labels[batchv1.JobNameLabel] == "endless" {
				n++
			}
		}
		return n
	}
	c.eventually("pods", func(v *loop.View) bool { return running(v) == 2 })
	c.must(jobs.Delete(c.ctx, "endless", metav1.DeleteOptions{PropagationPolicy: new(metav1.DeletePropagationBackground)}))
	c.eventually("no pods", func(v *loop.View) bool { return running(v) == 0 })
}

// deleteCircle: each of three pods is owned by another one and blocks its deletion.
func (c *controlPlane) deleteCircle() {
	pods, names := c.client.CoreV1().Pods("default"), []string{"a", "b", "c"}
	var made []*corev1.Pod
	for _, name := range names {
		p, err := pods.Create(c.ctx, c.podOf(name), metav1.CreateOptions{})
		c.must(err)
		made = append(made, p)
	}
	for i, name := range names {
		owner := made[(i+len(made)-1)%len(made)]
		_, err := pods.Patch(c.ctx, name, types.StrategicMergePatchType, fmt.Appendf(nil,
			`{"metadata":{"ownerReferences":[{"apiVersion":"v1","kind":"Pod","name":%q,"uid":%q,"controller":true,"blockOwnerDeletion":true}]}}`, owner.Name, owner.UID), metav1.PatchOptions{})
		c.must(err)
	}
	c.must(pods.Delete(c.ctx, "a", metav1.DeleteOptions{PropagationPolicy: new(metav1.DeletePropagationForeground)}))
	c.eventually("all gone", func(v *loop.View) bool {
		return loop.Pods.Get(v, "default", "a") == nil && loop.Pods.Get(v, "default", "b") == nil && loop.Pods.Get(v, "default", "c") == nil
	})
}

// deleteHeldNamespace: its conditions say what holds it, and nothing else goes before its pod.
func (c *controlPlane) deleteHeldNamespace() {
	_, err := c.client.CoreV1().Namespaces().Create(c.ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "held"}}, metav1.CreateOptions{})
	c.must(err)
	c.eventually("account", func(v *loop.View) bool { return loop.ServiceAccounts.Get(v, "held", "default") != nil })
	_, err = c.client.CoreV1().ConfigMaps("held").Create(c.ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "settings"}}, metav1.CreateOptions{})
	c.must(err)
	p := c.podOf("holder")
	p.Finalizers = []string{"example.org/hold"}
	_, err = c.client.CoreV1().Pods("held").Create(c.ctx, p, metav1.CreateOptions{})
	c.must(err)
	c.must(c.client.CoreV1().Namespaces().Delete(c.ctx, "held", metav1.DeleteOptions{}))
	c.eventually("conditions", func(v *loop.View) bool {
		ns := loop.Namespaces.Get(v, "", "held")
		return ns != nil && len(ns.Status.Conditions) == 5
	})
	_, err = c.client.CoreV1().ConfigMaps("held").Get(c.ctx, "settings", metav1.GetOptions{})
	c.must(err)
	_, err = c.client.CoreV1().Pods("held").Patch(c.ctx, "holder", types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{})
	c.must(err)
	c.eventually("namespace gone", func(v *loop.View) bool { return loop.Namespaces.Get(v, "", "held") == nil })
}

// deleteUsedClaim: it stays for as long as a pod on a node names it.
func (c *controlPlane) deleteUsedClaim() {
	claims := c.client.CoreV1().PersistentVolumeClaims("default")
	_, err := claims.Create(c.ctx, &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: "data"}, Spec: corev1.PersistentVolumeClaimSpec{
		AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}, StorageClassName: new(""),
		Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Mi")}}}}, metav1.CreateOptions{})
	c.must(err)
	p := c.podOf("db", corev1.Volume{Name: "data", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data"}}})
	p.Spec.NodeName = "n1" // no scheduler would give it a node while the claim has no volume
	_, err = c.client.CoreV1().Pods("default").Create(c.ctx, p, metav1.CreateOptions{})
	c.must(err)
	c.must(claims.Delete(c.ctx, "data", metav1.DeleteOptions{}))
	c.eventually("claim held", func(v *loop.View) bool {
		claim := loop.Claims.Get(v, "default", "data")
		return claim != nil && claim.DeletionTimestamp != nil
	})
	c.must(c.client.CoreV1().Pods("default").Delete(c.ctx, "db", metav1.DeleteOptions{}))
	c.eventually("claim gone", func(v *loop.View) bool { return loop.Claims.Get(v, "default", "data") == nil })
}
