package agent

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/node/agent/ladder"
	"github.com/orlog-io/orlog/node/agent/outbox"
	"github.com/orlog-io/orlog/projections"
)

// nodeConditions are those that the agent sets.
var nodeConditions = []v1.NodeConditionType{v1.NodeMemoryPressure, v1.NodeDiskPressure, v1.NodePIDPressure, v1.NodeReady}

// pressureCheck is how often the machine's free memory, disk and process ids are looked at, and its images.
const pressureCheck = 10 * time.Second

func (a *Agent) nodeKey() events.Key { return events.Key{Resource: "nodes", Name: a.o.NodeName} }

// nodeChanged wakes the reporting of the node: somebody else wrote to it.
func (a *Agent) nodeChanged(projections.Change) {
	select {
	case a.nodeNews <- struct{}{}:
	default:
	}
}

// reportNode keeps the Node object registered and its status reported: at once where somebody changed it, and when
// the machine comes under pressure or out of it, or gets or loses an image.
func (a *Agent) reportNode(ctx context.Context) error {
	tick := time.NewTicker(pressureCheck)
	defer tick.Stop()
	for ctx.Err() == nil {
		s, err := a.state(a.nodeKey())
		if err != nil {
			return err
		}
		switch {
		case s.Exists():
			if err := a.reportNodeStatus(s); err != nil {
				return err
			}
		case a.isCaught() && a.o.API != nil:
			a.retry(ctx, "registering the node", func() error { return a.register(ctx) })
		}
		select {
		case <-ctx.Done():
		case <-a.nodeNews:
		case <-tick.C:
		}
	}
	return nil
}

func (a *Agent) isCaught() bool {
	select {
	case <-a.caughtUp:
		return true
	default:
		return false
	}
}

// register creates the Node object; one that is there already is fine.
func (a *Agent) register(ctx context.Context) error {
	labels := map[string]string{v1.LabelHostname: a.o.NodeName, v1.LabelOSStable: runtime.GOOS, v1.LabelArchStable: runtime.GOARCH}
	maps.Copy(labels, a.o.Labels)
	node := &v1.Node{ObjectMeta: metav1.ObjectMeta{Name: a.o.NodeName, Labels: labels}, Spec: v1.NodeSpec{Taints: a.o.Taints}}
	node.Spec.PodCIDR, node.Spec.PodCIDRs = a.o.PodCIDR, []string{a.o.PodCIDR}
	node.Status = *a.nodeStatus(nil)
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	err := a.o.API.CreateNode(ctx, node)
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}

// reportNodeStatus reports the node's status if it is not what the log says.
func (a *Agent) reportNodeStatus(s events.State) error {
	node := &v1.Node{}
	if err := json.Unmarshal(s.Object, node); err != nil {
		return fmt.Errorf("node %s in the projection: %w", a.o.NodeName, err)
	}
	was := &node.Status
	if raw, waiting := a.outbox.Newest(s.Key, s.UID); waiting {
		pending := &v1.NodeStatus{}
		if json.Unmarshal(raw, pending) == nil {
			was = pending
		}
	}
	st := a.nodeStatus(was)
	verb := "status-reported"
	switch now, before := nodeReady(st), nodeReady(was); {
	case now && !before:
		verb = "ready"
	case before && !now:
		verb = "unready"
	case sameNodeStatus(st, was):
		return nil
	}
	raw, err := json.Marshal(st)
	if err != nil {
		return err
	}
	return a.outbox.Put(outbox.Report{Key: s.Key, UID: s.UID, Type: events.TypeOf("node", events.Verb(verb)), Status: raw, Time: time.Now()})
}

func nodeReady(st *v1.NodeStatus) bool {
	for _, c := range st.Conditions {
		if c.Type == v1.NodeReady {
			return c.Status == v1.ConditionTrue
		}
	}
	return false
}

// sameNodeStatus compares all but the heartbeat times: the lease is the heartbeat.
func sameNodeStatus(a, b *v1.NodeStatus) bool {
	plain := func(st *v1.NodeStatus) *v1.NodeStatus {
		st = st.DeepCopy()
		for i := range st.Conditions {
			st.Conditions[i].LastHeartbeatTime = metav1.Time{}
			st.Conditions[i].LastTransitionTime = metav1.Time{}
		}
		slices.SortFunc(st.Conditions, func(p, q v1.NodeCondition) int { return cmp.Compare(p.Type, q.Type) })
		return st
	}
	return ladder.EqualJSON(plain(a), plain(b))
}

// nodeStatus is the whole status; conditions that others set stay.
func (a *Agent) nodeStatus(was *v1.NodeStatus) *v1.NodeStatus {
	st := &v1.NodeStatus{Capacity: a.machine.capacity(), Allocatable: a.machine.allocatable(), NodeInfo: a.machine.info,
		DaemonEndpoints: v1.NodeDaemonEndpoints{KubeletEndpoint: v1.DaemonEndpoint{Port: a.o.Port}}}
	if was != nil {
		st.VolumesAttached, st.VolumesInUse, st.Phase, st.Images = was.VolumesAttached, was.VolumesInUse, was.Phase, was.Images
		keepExtended(st.Capacity, was.Capacity)
		keepExtended(st.Allocatable, was.Allocatable)
	}
	if all, err := a.o.Images.All(); err == nil {
		st.Images = nodeImages(all)
	} else { // what was said of them before stays until they can be read
		a.log.Warn("the node's images cannot be listed, trying again", "after", pressureCheck, events.LogError, err)
	}
	for _, ip := range a.o.NodeIPs {
		st.Addresses = append(st.Addresses, v1.NodeAddress{Type: v1.NodeInternalIP, Address: ip})
	}
	st.Addresses = append(st.Addresses, v1.NodeAddress{Type: v1.NodeHostName, Address: a.o.NodeName})
	memory, disk, pids := pressures(a.o.DataDir)
	pressed := func(kind v1.NodeConditionType, bad bool, reason, message, noReason, noMessage string) v1.NodeCondition {
		if bad {
			return v1.NodeCondition{Type: kind, Status: v1.ConditionTrue, Reason: reason, Message: message}
		}
		return v1.NodeCondition{Type: kind, Status: v1.ConditionFalse, Reason: noReason, Message: noMessage}
	}
	now := metav1.NewTime(time.Now().Truncate(time.Second))
	for _, c := range []v1.NodeCondition{
		pressed(v1.NodeMemoryPressure, memory, "KubeletHasInsufficientMemory", "the node is short of memory", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
		pressed(v1.NodeDiskPressure, disk, "KubeletHasDiskPressure", "the node is short of disk space", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
		pressed(v1.NodePIDPressure, pids, "KubeletHasInsufficientPID", "the node is short of process ids", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
		{Type: v1.NodeReady, Status: v1.ConditionTrue, Reason: "KubeletReady", Message: "kubelet is posting ready status"},
	} {
		c.LastHeartbeatTime, c.LastTransitionTime = now, now
		if was != nil {
			for _, old := range was.Conditions {
				if old.Type == c.Type && old.Status == c.Status {
					c.LastTransitionTime = old.LastTransitionTime
				}
			}
		}
		st.Conditions = append(st.Conditions, c)
	}
	if was != nil {
		for _, c := range was.Conditions {
			if !slices.Contains(nodeConditions, c.Type) {
				st.Conditions = append(st.Conditions, c)
			}
		}
	}
	return st
}

// keepExtended keeps the extended resources that somebody else advertised for the node: they are not the agent's.
func keepExtended(own, was v1.ResourceList) {
	for name, quantity := range was {
		if _, ours := own[name]; !ours && isExtended(name) {
			own[name] = quantity
		}
	}
}

// isExtended: the resource is none of Kubernetes' own.
func isExtended(name v1.ResourceName) bool {
	domain, _, prefixed := strings.Cut(string(name), "/")
	return prefixed && domain != "kubernetes.io" && !strings.HasSuffix(domain, ".kubernetes.io")
}

// pressures tells what the machine is short of: less than 100 MiB of memory, 10% of the disk or 5% of its files,
// or 5% of the process ids left.
func pressures(dir string) (memory, disk, pids bool) {
	if free, err := memInfo("MemAvailable"); err == nil {
		memory = free < 100<<20
	}
	var fs unix.Statfs_t
	if unix.Statfs(dir, &fs) == nil && fs.Blocks > 0 {
		disk = fs.Bavail < fs.Blocks/10 || fs.Files > 0 && fs.Ffree < fs.Files/20
	}
	if limit, err := readNumber("/proc/sys/kernel/pid_max"); err == nil {
		var info unix.Sysinfo_t
		pids = unix.Sysinfo(&info) == nil && int64(info.Procs) > limit*19/20
	}
	return memory, disk, pids
}
