package daemonset

import (
	"k8s.io/apimachinery/pkg/api/equality"

	"github.com/orlog-io/orlog/services/loop"
	"github.com/orlog-io/orlog/services/reconcilers/replica"
)

// report counts, and writes the status where it changed.
func (r *round) report() {
	s := r.ds.Status
	s.ObservedGeneration = r.ds.Generation
	s.CurrentNumberScheduled, s.NumberMisscheduled, s.DesiredNumberScheduled, s.NumberReady = 0, 0, 0, 0
	s.UpdatedNumberScheduled, s.NumberAvailable, s.NumberUnavailable = 0, 0, 0
	for _, n := range r.nodes {
		run, _ := r.admits(n)
		pods := r.on[n.Name]
		if !run {
			if len(pods) > 0 {
				s.NumberMisscheduled++
			}
			continue
		}
		s.DesiredNumberScheduled++
		if len(pods) == 0 {
			continue
		}
		s.CurrentNumberScheduled++
		ready, available, updated := false, false, false
		for _, p := range pods {
			if p.DeletionTimestamp != nil {
				continue
			}
			ready = ready || replica.Ready(p) != nil
			available = available || r.available(p)
			updated = updated || r.current(p)
		}
		if ready {
			s.NumberReady++
		}
		if available {
			s.NumberAvailable++
		}
		if updated {
			s.UpdatedNumberScheduled++
		}
	}
	s.NumberUnavailable = s.DesiredNumberScheduled - s.NumberAvailable
	if equality.Semantic.DeepEqual(r.ds.Status, s) {
		return
	}
	next := r.ds.DeepCopy()
	next.Status = s
	r.out.Do(loop.DaemonSets.UpdateStatus(next))
}
