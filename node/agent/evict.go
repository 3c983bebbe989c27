package agent

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"slices"

	v1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/resource"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/node/agent/spec"
	"github.com/orlog-io/orlog/node/volume"
)

// housekeeping looks after what pods take without asking: now and then, beside everything else.
func (a *Agent) housekeeping(ctx context.Context) error {
	for sleep(ctx, pressureCheck) {
		for _, w := range a.all() {
			if pod, runs := w.holds(); runs {
				if message := a.overLimit(pod, w.uid); message != "" {
					w.evictFor(message)
				}
			}
		}
		if memory, _, _ := pressures(a.o.DataDir); memory {
			a.relieveMemory()
		}
	}
	return nil
}

// overLimit tells which limit of local storage a pod exceeds, in the words that its status shall say.
func (a *Agent) overLimit(pod *v1.Pod, uid string) string {
	name, limit, err := a.volumes.Exceeded(pod)
	if err != nil {
		a.log.Warn("measuring volumes", events.LogObject, events.Key{Resource: "pods", Namespace: pod.Namespace, Name: pod.Name}.String(), events.LogError, err)
	}
	if name != "" {
		return fmt.Sprintf("Usage of EmptyDir volume %q exceeds the limit %q. ", name, limit)
	}
	total := resource.PodLimits(pod, resource.PodResourcesOptions{})
	allowed, limited := total[v1.ResourceEphemeralStorage]
	if !limited {
		return ""
	}
	used := int64(0)
	for _, dir := range []string{a.volumes.Dir(uid), a.logDir(pod.Namespace, pod.Name, uid), filepath.Join(a.o.sandboxes, uid)} {
		if n, err := volume.DiskUsage(dir); err == nil { // one that is not there takes no room
			used += n
		}
	}
	if used > allowed.Value() {
		return fmt.Sprintf("Pod ephemeral local storage usage exceeds the total limit of containers %s. ", allowed.String())
	}
	return ""
}

// relieveMemory evicts the one pod that takes most beyond what it requested, of the least important first.
func (a *Agent) relieveMemory() {
	type candidate struct {
		w        *worker
		priority int32
		over     int64
	}
	var list []candidate
	for _, w := range a.all() {
		pod, runs := w.holds()
		if !runs || pod.Spec.Priority != nil && *pod.Spec.Priority >= systemCritical {
			continue
		}
		u, err := a.usage.Read(spec.CgroupParent(a.o.CgroupRoot, pod))
		if err != nil {
			continue // it has just ended
		}
		request := resource.PodRequests(pod, resource.PodResourcesOptions{})
		c := candidate{w: w, over: int64(u.WorkingSet) - request.Memory().Value()}
		if pod.Spec.Priority != nil {
			c.priority = *pod.Spec.Priority
		}
		list = append(list, c)
	}
	if len(list) == 0 {
		return
	}
	worst := slices.MinFunc(list, func(p, q candidate) int {
		within := func(c candidate) int { // those that keep to their requests come last
			if c.over <= 0 {
				return 1
			}
			return 0
		}
		return cmp.Or(cmp.Compare(within(p), within(q)), cmp.Compare(p.priority, q.priority), cmp.Compare(q.over, p.over))
	})
	worst.w.evictFor("The node was low on resource: memory. ")
}

// systemCritical is the priority from which a pod is part of the system.
const systemCritical = 2000000000
