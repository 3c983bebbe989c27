package scheduler

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	resourcehelper "k8s.io/component-helpers/resource"

	"github.com/orlog-io/orlog/services/loop"
)

// snapshot is what a batch of decisions works on: nodes with what is used of them.
type snapshot struct {
	nodes  []*nodeInfo // by name
	byName map[string]*nodeInfo
	// averse are the bound pods with required anti-affinity, which keep others away.
	averse []placedPod
	// nominated are the pods for which room is being made, by node; doomed those that have to go for them, as
	// decided in this batch.
	nominated map[string][]*corev1.Pod
	doomed    map[*corev1.Pod]bool
	// namespaces are labels by namespace, for affinity terms that select namespaces.
	namespaces func() map[string]labels.Set
}

type placedPod struct {
	pod  *corev1.Pod
	node *nodeInfo
}

// nodeInfo is a node with the pods on it.
type nodeInfo struct {
	node  *corev1.Node
	pods  []*corev1.Pod
	room  amounts
	used  amounts
	guess amounts // as used, with a guess for pods that request nothing: for scores only
	ports map[port]bool
}

// amounts are quantities by resource: CPU in milli-cores, all others in their unit.
type amounts map[corev1.ResourceName]int64

func (a amounts) add(b amounts) {
	for name, n := range b {
		a[name] += n
	}
}

func amountsOf(list corev1.ResourceList) amounts {
	out := make(amounts, len(list))
	for name, q := range list {
		if name == corev1.ResourceCPU {
			out[name] = q.MilliValue()
		} else {
			out[name] = q.Value()
		}
	}
	return out
}

// requests sums up what a pod asks for: containers, init containers and overhead.
func requests(p *corev1.Pod) amounts {
	return amountsOf(resourcehelper.PodRequests(p, resourcehelper.PodResourcesOptions{UseStatusResources: true}))
}

// What a container that requests nothing is guessed to use, as upstream does.
const (
	guessMilliCPU = 100
	guessMemory   = 200 << 20
)

func guessed(p *corev1.Pod, asked amounts) amounts {
	out := amounts{corev1.ResourceCPU: asked[corev1.ResourceCPU], corev1.ResourceMemory: asked[corev1.ResourceMemory]}
	if out[corev1.ResourceCPU] == 0 {
		out[corev1.ResourceCPU] = guessMilliCPU * int64(len(p.Spec.Containers))
	}
	if out[corev1.ResourceMemory] == 0 {
		out[corev1.ResourceMemory] = guessMemory * int64(len(p.Spec.Containers))
	}
	return out
}

// port is a host port in use. ip "" is every address.
type port struct {
	ip       string
	protocol corev1.Protocol
	number   int32
}

func portsOf(p *corev1.Pod) []port {
	var out []port
	add := func(containers []corev1.Container) {
		for _, c := range containers {
			for _, cp := range c.Ports {
				if cp.HostPort <= 0 {
					continue
				}
				ip, protocol := cp.HostIP, cp.Protocol
				if ip == "0.0.0.0" || ip == "::" {
					ip = ""
				}
				if protocol == "" {
					protocol = corev1.ProtocolTCP
				}
				out = append(out, port{ip, protocol, cp.HostPort})
			}
		}
	}
	add(p.Spec.Containers)
	for _, c := range p.Spec.InitContainers {
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			add([]corev1.Container{c}) // a sidecar holds its ports as long as the pod lives
		}
	}
	return out
}

// taken says whether a port collides with one in use: on the same address, or where either means all.
func (n *nodeInfo) taken(want port) bool {
	for have := range n.ports {
		if have.protocol == want.protocol && have.number == want.number && (have.ip == want.ip || have.ip == "" || want.ip == "") {
			return true
		}
	}
	return false
}

func takeSnapshot(v *loop.View) *snapshot {
	s := &snapshot{byName: map[string]*nodeInfo{}, nominated: map[string][]*corev1.Pod{}, doomed: map[*corev1.Pod]bool{}}
	for _, node := range loop.Nodes.List(v, "") {
		if node.DeletionTimestamp != nil {
			continue
		}
		n := &nodeInfo{node: node, room: amountsOf(node.Status.Allocatable), used: amounts{}, guess: amounts{}, ports: map[port]bool{}}
		s.nodes = append(s.nodes, n)
		s.byName[node.Name] = n
	}
	for _, p := range loop.Pods.List(v, "") {
		if p.Spec.NodeName != "" && !finished(p) {
			s.assume(p, p.Spec.NodeName)
		} else if node := p.Status.NominatedNodeName; node != "" && pending(p) {
			s.nominated[node] = append(s.nominated[node], p)
		}
	}
	var sets map[string]labels.Set
	s.namespaces = func() map[string]labels.Set {
		if sets == nil {
			sets = map[string]labels.Set{}
			for _, ns := range loop.Namespaces.List(v, "") {
				sets[ns.Name] = ns.Labels
			}
		}
		return sets
	}
	return s
}

// assume counts a pod as running on a node.
func (s *snapshot) assume(p *corev1.Pod, node string) {
	n := s.byName[node]
	if n == nil {
		return // bound to a node that is gone: it uses nothing that could be given out
	}
	asked := requests(p)
	n.pods = append(n.pods, p)
	n.used.add(asked)
	n.guess.add(guessed(p, asked))
	for _, held := range portsOf(p) {
		n.ports[held] = true
	}
	if a := p.Spec.Affinity; a != nil && a.PodAntiAffinity != nil && len(a.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution) > 0 {
		s.averse = append(s.averse, placedPod{p, n})
	}
}
