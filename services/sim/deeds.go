package sim

import (
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/services/loop"
)

const quarantineLabel = "quarantined"

// deeds are what people do, with how often. The rough ones make pods unavailable.
var deeds = []struct {
	name   string
	weight int
	rough  bool
	do     func(*people)
}{
	{"scale", 5, false, (*people).scale},
	{"roll", 6, false, (*people).roll},
	{"roll back", 2, false, (*people).rollBack},
	{"pause or resume", 2, false, (*people).pauseOrResume},
	{"cordon or uncordon", 2, false, (*people).cordonOrUncordon},
	{"change strategy", 1, false, (*people).changeStrategy},
	{"deploy", 2, false, (*people).deployAgain},
	{"delete deployment", 1, false, (*people).deleteDeployment},
	{"make or delete lab", 2, false, (*people).makeOrDeleteLab},
	{"delete pod", 4, true, (*people).deletePod},
	{"delete replica set", 1, true, (*people).deleteReplicaSet},
	{"delete node", 1, true, (*people).deleteNode},
	{"quarantine pod", 1, true, (*people).quarantine},
}

// pick draws a deed.
func (p *people) pick() string {
	sum := 0
	for _, d := range deeds {
		if !d.rough || !p.w.plan.Calm {
			sum += d.weight
		}
	}
	at := p.w.rng.IntN(sum)
	for _, d := range deeds {
		if d.rough && p.w.plan.Calm {
			continue
		}
		if at -= d.weight; at < 0 {
			return d.name
		}
	}
	return ""
}

func (p *people) do(name string) {
	for _, d := range deeds {
		if d.name == name {
			p.w.tell("admin: %s", name)
			d.do(p)
			return
		}
	}
	p.w.fail(Sound, "the plan names a deed that nobody knows: %q", name)
}

// deployment picks a Deployment that is not being deleted.
func (p *people) deployment() *appsv1.Deployment {
	d := one(p.w, loop.Deployments.List(p.w.view(), ""))
	if d != nil && d.DeletionTimestamp != nil {
		return nil
	}
	return d
}

func (p *people) edit(d *appsv1.Deployment, change func(spec object)) {
	if d != nil {
		p.change(loop.Deployments.KeyOf(d), loop.Effect{Resource: loop.Deployments.GroupVersionResource}, func(o object) { change(o.sub("spec")) })
	}
}

func (p *people) scale() {
	n := p.w.rng.IntN(mostReplicas + 1)
	p.edit(p.deployment(), func(spec object) { spec["replicas"] = float64(n) })
}

func (p *people) roll() {
	p.version++
	p.image(p.version + 1)
}

func (p *people) rollBack() { p.image(1 + p.w.rng.IntN(p.version+1)) }

func (p *people) image(version int) {
	p.edit(p.deployment(), func(spec object) {
		c := spec.sub("template").sub("spec").list("containers")
		c[0].(map[string]any)["image"] = fmt.Sprintf("app:v%d", version)
	})
}

func (p *people) pauseOrResume() {
	if d := p.deployment(); d != nil {
		p.pause(d, !d.Spec.Paused)
	}
}

func (p *people) pause(d *appsv1.Deployment, yes bool) {
	p.edit(d, func(spec object) {
		if delete(spec, "paused"); yes {
			spec["paused"] = true
		}
	})
}

func (p *people) changeStrategy() {
	d := p.deployment()
	surge, unavailable := p.strategy()
	if d == nil || d.Spec.Strategy.RollingUpdate == nil {
		return
	}
	p.edit(d, func(spec object) {
		spec["strategy"] = parse(encode(appsv1.DeploymentStrategy{Type: appsv1.RollingUpdateDeploymentStrategyType,
			RollingUpdate: &appsv1.RollingUpdateDeployment{MaxSurge: &surge, MaxUnavailable: &unavailable}})).plain()
	})
}

func (p *people) deployAgain() {
	i := p.w.rng.IntN(p.w.plan.Deployments)
	p.deploy(shop, fmt.Sprintf("web-%d", i))
}

func (p *people) deleteDeployment() {
	d := p.deployment()
	if d == nil {
		return
	}
	e := loop.Deployments.Delete(d)
	e.Propagation = []metav1.DeletionPropagation{metav1.DeletePropagationBackground, metav1.DeletePropagationForeground, metav1.DeletePropagationOrphan}[p.w.rng.IntN(3)]
	if d.Namespace == lab && e.Propagation == metav1.DeletePropagationOrphan {
		e.Propagation = metav1.DeletePropagationBackground // nobody would take them in again
	}
	p.remove(e)
	if p.w.rng.IntN(2) == 0 {
		p.remove(loop.Effect{Verb: loop.Delete, Resource: loop.Services.GroupVersionResource, Key: loop.Services.Key(d.Namespace, d.Name)})
	}
}

func (p *people) cordonOrUncordon() {
	if n := one(p.w, loop.Nodes.List(p.w.view(), "")); n != nil {
		p.cordon(n, !n.Spec.Unschedulable)
	}
}

func (p *people) cordon(n *corev1.Node, yes bool) {
	p.change(loop.Nodes.KeyOf(n), loop.Effect{Resource: loop.Nodes.GroupVersionResource}, func(o object) {
		if delete(o.sub("spec"), "unschedulable"); yes {
			o.sub("spec")["unschedulable"] = true
		}
	})
}

// makeOrDeleteLab deletes a namespace with all that is in it, or makes it again.
func (p *people) makeOrDeleteLab() {
	if ns := loop.Namespaces.Get(p.w.view(), "", lab); ns != nil {
		p.remove(loop.Namespaces.Delete(ns))
		return
	}
	p.create(loop.Namespaces.Create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: lab}}))
	p.deploy(lab, "trial")
	p.create(loop.Leases.Create(&coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: lab, Name: "leader"}}))
}

func (p *people) pod() *corev1.Pod { return one(p.w, loop.Pods.List(p.w.view(), "")) }

func (p *people) deletePod() {
	pod := p.pod()
	if pod == nil {
		return
	}
	e := loop.Pods.Delete(pod)
	if p.w.rng.IntN(4) == 0 {
		e.GracePeriod = new(int64(0))
	}
	p.remove(e)
}

func (p *people) deleteReplicaSet() {
	if rs := one(p.w, loop.ReplicaSets.List(p.w.view(), "")); rs != nil {
		p.remove(loop.ReplicaSets.Delete(rs))
	}
}

func (p *people) deleteNode() {
	if n := one(p.w, loop.Nodes.List(p.w.view(), "")); n != nil {
		p.remove(loop.Nodes.Delete(n))
	}
}

// quarantine takes a pod out of service by its label, so that somebody can look at it, for a while.
func (p *people) quarantine() {
	pod := p.pod()
	if pod == nil || pod.DeletionTimestamp != nil || pod.Namespace != shop {
		return
	}
	key, app := loop.Pods.KeyOf(pod), pod.Labels["app"]
	if app == quarantineLabel {
		return
	}
	p.quarantined[key] = true
	p.relabel(key, quarantineLabel)
	if p.w.rng.IntN(2) == 0 {
		p.w.clock.after(time.Duration(p.w.rng.IntN(20))*time.Second, func() { p.relabel(key, app) })
	}
}

func (p *people) relabel(key events.Key, app string) {
	p.change(key, loop.Effect{Resource: loop.Pods.GroupVersionResource}, func(o object) { o.meta().sub("labels")["app"] = app })
}
