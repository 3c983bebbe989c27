package sim

import (
	"fmt"
	"maps"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/services/loop"
)

// Where people work: shop lasts, lab comes and goes.
const (
	shop = "shop"
	lab  = "lab"
	// mostReplicas keeps what people want, with what rollouts add, within what the nodes hold.
	mostReplicas = 5
	mostSurge    = 2
)

// people play everybody who uses kubectl.
type people struct {
	w *world
	// versions of images count up.
	version int
	// quarantined are pods that were taken out of service by their label.
	quarantined map[events.Key]bool
}

const (
	admin = "admin"
	// lastRound is how long after the end somebody looks once more.
	lastRound = time.Minute
)

func (p *people) setUp() {
	p.quarantined = map[events.Key]bool{}
	for _, name := range []string{"default", corev1.NamespaceNodeLease, shop} {
		p.create(loop.Namespaces.Create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}))
	}
}

// begin creates what there is at first, and plans the deeds.
func (p *people) begin() {
	for i := range p.w.plan.Deployments {
		p.deploy(shop, fmt.Sprintf("web-%d", i))
	}
	for _, d := range p.w.plan.Script {
		p.w.clock.after(d.After, func() { p.do(d.Do) })
	}
	if p.w.plan.Deeds > 0 {
		p.next()
	}
	p.w.clock.after(p.w.plan.Length, p.finish)
	p.w.clock.after(p.w.plan.Length+lastRound, p.finish) // what was being deleted is gone by now
}

// next plans a deed, and the one after it.
func (p *people) next() {
	w := p.w
	w.clock.after(time.Duration(w.rng.Int64N(int64(2*w.plan.Deeds)+1)), func() {
		if w.faults.over() {
			return
		}
		p.do(p.pick())
		p.next()
	})
}

// create, change and remove write with kubectl's patience: a few tries, then somebody gives up.
func (p *people) create(e loop.Effect) { p.request(request{Effect: e}) }

func (p *people) change(key events.Key, gvr loop.Effect, change func(object)) {
	gvr.Verb, gvr.Key = loop.Update, key
	p.request(request{Effect: gvr, change: change})
}

func (p *people) remove(e loop.Effect) {
	e.UID = "" // kubectl deletes whatever has the name
	p.request(request{Effect: e})
}

func (p *people) request(r request) {
	r.actor = admin
	var err error
	for range 3 {
		if _, err = p.w.api.perform(r); err == nil || !isUnavailable(err) {
			break
		}
	}
	if err != nil {
		p.w.tell("admin: %s %s: %v", r.Verb, r.Key, err)
	}
}

// deploy creates a Deployment and its Service, with the API's defaults.
func (p *people) deploy(namespace, name string) {
	r := p.w.rng
	labels := map[string]string{"app": name}
	surge, unavailable := p.strategy()
	d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Spec: appsv1.DeploymentSpec{
		Replicas: new(int32(1 + r.IntN(mostReplicas))), Selector: &metav1.LabelSelector{MatchLabels: labels},
		MinReadySeconds: int32(r.IntN(2) * r.IntN(8)), RevisionHistoryLimit: new(int32(r.IntN(4))), ProgressDeadlineSeconds: new(int32(600)),
		Strategy: appsv1.DeploymentStrategy{Type: appsv1.RollingUpdateDeploymentStrategyType, RollingUpdate: &appsv1.RollingUpdateDeployment{
			MaxSurge: &surge, MaxUnavailable: &unavailable}},
		Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{
			RestartPolicy: corev1.RestartPolicyAlways, SchedulerName: corev1.DefaultSchedulerName, DNSPolicy: corev1.DNSClusterFirst,
			TerminationGracePeriodSeconds: new(int64(30)),
			Containers: []corev1.Container{{Name: "c", Image: "app:v1", Ports: []corev1.ContainerPort{{ContainerPort: 8080, Protocol: corev1.ProtocolTCP}},
				Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("500m")}}}}}}}}
	if r.IntN(6) == 0 {
		d.Spec.Strategy = appsv1.DeploymentStrategy{Type: appsv1.RecreateDeploymentStrategyType}
	}
	p.create(loop.Deployments.Create(d))
	p.create(loop.Services.Create(&corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Spec: corev1.ServiceSpec{
		Selector: labels, Ports: []corev1.ServicePort{{Port: 80, Protocol: corev1.ProtocolTCP, TargetPort: intstr.FromInt32(8080)}}}}))
}

// strategy draws fenceposts of which one at least is not 0.
func (p *people) strategy() (surge, unavailable intstr.IntOrString) {
	choices := [][2]intstr.IntOrString{
		{intstr.FromString("25%"), intstr.FromString("25%")}, {intstr.FromInt32(1), intstr.FromInt32(0)}, {intstr.FromInt32(0), intstr.FromInt32(1)},
		{intstr.FromInt32(2), intstr.FromInt32(0)}, {intstr.FromInt32(1), intstr.FromInt32(2)}, {intstr.FromInt32(0), intstr.FromString("50%")},
	}
	c := choices[p.w.rng.IntN(len(choices))]
	return c[0], c[1]
}

// view is the truth as it is, for people who look before they act.
func (w *world) view() *loop.View {
	return loop.NewView(truth{w.record, w.record.last()}, truth{w.heartbeats, w.heartbeats.last()}, w.rules.cache, events.Cause{})
}

// any picks one, nil where there is none.
func one[T any](w *world, of []*T) *T {
	if len(of) == 0 {
		return nil
	}
	return of[w.rng.IntN(len(of))]
}

// finish ends all that would keep the world from coming to rest.
func (p *people) finish() {
	v := p.w.view()
	p.w.tell("everybody goes home")
	for _, d := range loop.Deployments.List(v, "") {
		if d.Spec.Paused {
			p.pause(d, false)
		}
	}
	for _, n := range loop.Nodes.List(v, "") {
		if n.Spec.Unschedulable {
			p.cordon(n, false)
		}
	}
	for i := range p.w.plan.Deployments { // whoever was orphaned finds a family again
		if name := fmt.Sprintf("web-%d", i); loop.Deployments.Get(v, shop, name) == nil {
			p.deploy(shop, name)
		}
	}
	for _, key := range slices.SortedFunc(maps.Keys(p.quarantined), compareKeys) {
		if pod := loop.Pods.At(v, key); pod != nil && metav1.GetControllerOf(pod) == nil {
			p.remove(loop.Pods.Delete(pod))
		}
	}
	for _, n := range p.w.nodes {
		n.boot()
	}
}
