package scheduler

import (
	"fmt"
	"math/rand/v2"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/orlog-io/orlog/services/loop"
	"github.com/orlog-io/orlog/services/loop/looptest"
)

// TestPreemptionEndsWithTheMostImportantRunning lets pods of random priority and size come while pods that are
// to go take their time. No node is ever overcommitted, nobody has to go for a pod of no higher priority, and
// at the end no pod waits that could run in place of less important ones.
func TestPreemptionEndsWithTheMostImportantRunning(t *testing.T) {
	for seed := range uint64(30) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 2))
			w := looptest.NewWorld(t)
			for i := range 1 + r.IntN(3) {
				w.Put(loop.Nodes.Key("", fmt.Sprintf("n%d", i)), node(fmt.Sprintf("n%d", i), "2", "8Gi", 6, nil))
			}
			for i := range 25 {
				p := pod(fmt.Sprintf("p%d", i), 100*(1+r.Int64N(12)), func(p *corev1.Pod) { p.Spec.Priority = new(r.Int32N(4)) })
				w.Put(loop.Pods.KeyOf(p), p)
				decideAll(t, w)
				checkNodes(t, w)
				bury(w, func() bool { return r.IntN(2) == 0 })
			}
			for range 100 { // until all is quiet
				decideAll(t, w)
				checkNodes(t, w)
				if !bury(w, func() bool { return true }) {
					break
				}
			}
			before := w.Store.Position()
			decideAll(t, w)
			if w.Store.Position() != before {
				t.Errorf("it is not quiet: the log goes on to %d", w.Store.Position())
			}
			snap := takeSnapshot(w.View())
			for _, p := range loop.Pods.List(w.View(), "") {
				if !pending(p) {
					continue
				}
				record := snap.place(p)
				if best, _ := snap.preempt(p, record.helpful, nil); record.Node != "" || best != nil {
					t.Errorf("%s of priority %d waits, but could run: %+v", p.Name, priority(p), best)
				}
			}
		})
	}
}

// bury removes some of the pods that are to go; false: there was none.
func bury(w *looptest.World, now func() bool) bool {
	any := false
	for _, p := range loop.Pods.List(w.View(), "") {
		if p.DeletionTimestamp != nil && now() {
			w.Remove(loop.Pods.KeyOf(p))
			any = true
		}
	}
	return any
}
