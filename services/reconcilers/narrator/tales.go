package narrator

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/services/loop"
)

// Actors that more than one tale is about.
const (
	controllers = "system:serviceaccount:kube-system:"
	scheduler   = "system:kube-scheduler"
	agents      = "system:node:"
)

// The components, by the names that upstream's have in Events. Each writes its Events itself, as upstream's
// roles let it; for the nodes' agents, which are no identity of the control plane, the node controller does.
var (
	defaultScheduler = voice{component: corev1.DefaultSchedulerName, as: loop.Identity{User: scheduler, Groups: []string{"system:authenticated"}}}
	deployments      = controller("deployment-controller")
	replicaSets      = controller("replicaset-controller")
	replication      = controller("replication-controller")
	statefulSets     = controller("statefulset-controller")
	jobs             = controller("job-controller")
	cronJobs         = controller("cronjob-controller")
	nodes            = controller("node-controller")
	taintEviction    = voice{component: "taint-eviction-controller", as: nodes.as} // upstream has no role of that name
	daemonSets       = voice{component: "daemonset-controller", as: loop.ServiceAccount("daemon-set-controller")}
)

func controller(name string) voice { return voice{component: name, as: loop.ServiceAccount(name)} }

func kubelet(node string) voice { return voice{component: "kubelet", host: node, as: nodes.as} }

// tales are all that is told.
var tales = func() []tale {
	out := []tale{
		{events.Desired, "", "pods", scheduler, scheduled},
		{events.Observed, "", "pods", scheduler, unschedulable},
		{events.Desired, "", "pods", nodes.as.User, evicted},
		{events.Desired, "", "pods", controllers + taintEviction.component, evicted},
		{events.Desired, "apps", "replicasets", deployments.as.User, scaled},
		{events.Desired, "batch", "jobs", cronJobs.as.User, dependents(cronJobs, "Created job %[1]s", "Deleted job %[1]s")},
		{events.Desired, "batch", "jobs", "", jobLost},
		{events.Observed, "batch", "jobs", jobs.as.User, jobTurned},
		{events.Desired, "", "nodes", "", nodeCameOrWent},
		{events.Desired, "", "nodes", agents, nodeReported},
		{events.Observed, "", "nodes", agents, nodeReported},
		{events.Observed, "", "nodes", nodes.as.User, nodeSilent},
		{events.Desired, "", "pods", statefulSets.as.User, dependents(statefulSets, "Create Pod %[1]s in StatefulSet %[2]s successful", "Delete Pod %[1]s in StatefulSet %[2]s successful")},
	}
	for _, v := range []voice{replicaSets, replication, daemonSets, jobs} {
		out = append(out, tale{events.Desired, "", "pods", v.as.User, dependents(v, "Created pod: %[1]s", "Deleted pod: %[1]s")})
	}
	return out
}()
