package agent

import (
	"context"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/node/agent/ladder"
	"github.com/orlog-io/orlog/node/probe"
)

// worker walks one pod up and down the ladder. Its goroutine alone touches what is below mu's fields.
type worker struct {
	a   *Agent
	uid string
	key events.Key

	mu      sync.Mutex
	seen    seen // newest
	unsaved bool // seen is newer than pod.json
	gone    bool
	evict   string // why the node wants the pod gone
	runtime bool   // the runtime has news
	source  bool   // a configMap or secret changed
	labels  bool   // the pod's metadata changed
	tidies  bool   // remains of ended attempts are to be looked at
	foreign bool   // somebody else wrote the status
	done    []finished
	wake    chan struct{} // capacity 1

	rec       *ladder.Record
	instances map[string]ladder.Instance
	blind     bool                          // the runtime could not be asked yet
	busy      map[string]context.CancelFunc // background steps
	status    *v1.PodStatus                 // last one worked out
	reported  *v1.PodStatus                 // last one put into the outbox
	spoke     bool                          // by this process
	refreshAt time.Time                     // when the volumes want to be looked at again
	retryAt   time.Time                     // when the runtime is asked again after it failed
	refresher refresher
	holding   bool   // admitted: its resources are taken; under mu
	public    public // what others may know of rec; under mu

	waited     time.Duration // that the present step waited for its turn
	traceUntil time.Time     // how long what is done belongs to the cause's trace; under mu
}

// finished is a background step's end.
type finished struct {
	step ladder.Step
	id   string // the attempt it was about
	out  ladder.Outcome
}

func newWorker(a *Agent, s seen) *worker {
	w := &worker{a: a, uid: string(s.Pod.UID), key: events.Key{Resource: "pods", Namespace: s.Pod.Namespace, Name: s.Pod.Name},
		seen: s, unsaved: true, traceUntil: time.Now().Add(traceLife), runtime: true, blind: true, wake: make(chan struct{}, 1), busy: map[string]context.CancelFunc{},
		instances: map[string]ladder.Instance{}}
	return w
}

// hold notes that the pod was admitted; holds tells which pod takes up resources.
func (w *worker) hold() {
	w.mu.Lock()
	w.holding = true
	w.mu.Unlock()
}

func (w *worker) release() {
	w.mu.Lock()
	w.holding = false
	w.mu.Unlock()
}

func (w *worker) holds() (*v1.Pod, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.seen.Pod, w.holding
}

func (w *worker) start() { w.a.wg.Go(func() { w.run(w.a.ctx) }) }

func (w *worker) wakeUp() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (w *worker) tell(news seen) {
	w.mu.Lock()
	if news.Cause == 0 {
		news.Cause, news.Correlation, news.TraceParent = w.seen.Cause, w.seen.Correlation, w.seen.TraceParent
	} else if news.Cause != w.seen.Cause {
		w.traceUntil = time.Now().Add(traceLife)
	}
	was := w.seen.Pod
	w.labels = w.labels || !sameMap(was.Labels, news.Pod.Labels) || !sameMap(was.Annotations, news.Pod.Annotations)
	w.foreign = w.foreign || news.foreign
	w.seen, w.unsaved = news, true
	w.mu.Unlock()
	w.wakeUp()
}

func sameMap(a, b map[string]string) bool {
	if len(a) != len(b) {
		return false
	}
	for k, v := range a {
		if x, has := b[k]; !has || x != v {
			return false
		}
	}
	return true
}

func (w *worker) vanish() {
	w.mu.Lock()
	w.gone = true
	w.mu.Unlock()
	w.wakeUp()
}

// evictFor has the pod stopped, for the reason that the message gives.
func (w *worker) evictFor(message string) {
	w.mu.Lock()
	w.evict = message
	w.mu.Unlock()
	w.wakeUp()
}

func (w *worker) runtimeNews() {
	w.mu.Lock()
	w.runtime = true
	w.mu.Unlock()
	w.wakeUp()
}

func (w *worker) sourceNews() {
	w.mu.Lock()
	w.source = true
	w.mu.Unlock()
	w.wakeUp()
}

func (w *worker) finish(f finished) {
	w.mu.Lock()
	w.done = append(w.done, f)
	w.mu.Unlock()
	w.wakeUp()
}

// run is the worker's life: one step after the other, waiting where there is none.
func (w *worker) run(ctx context.Context) {
	defer func() {
		for _, cancel := range w.busy {
			cancel()
		}
	}()
	w.begin()
	for ctx.Err() == nil {
		w.gather(ctx)
		s := w.situation()
		step := ladder.Next(s)
		w.report(s)
		switch step.Kind {
		case ladder.Wait:
			w.supervise(s)
			w.wait(ctx, step.Until)
		case ladder.Forget:
			if w.forget(ctx) {
				return
			}
		default:
			w.perform(ctx, s, step)
		}
	}
}

// begin finds the record and the last status told.
func (w *worker) begin() {
	if w.rec == nil {
		w.rec = ladder.NewRecord(w.seen.Pod, time.Now())
	}
	if raw, waiting := w.a.outbox.Newest(w.key, w.uid); waiting {
		w.reported = decodeStatus(raw)
	}
	if w.reported == nil {
		w.reported = w.a.records.status(w.uid)
	}
	if w.reported == nil {
		w.reported = w.seen.Pod.Status.DeepCopy()
	}
	w.status = w.reported
	if w.rec.Admitted && !w.rec.Down {
		w.hold()
	}
	if w.rec.Mounted {
		w.refreshAt = time.Now() // finds out when tokens age, and what has changed while the agent was away
	}
	w.publish()
}

// gather takes in what has happened since the last step.
func (w *worker) gather(ctx context.Context) {
	w.mu.Lock()
	done, runtime, source, labels, unsaved, foreign, tidies := w.done, w.runtime, w.source, w.labels, w.unsaved, w.foreign, w.tidies
	news := w.seen
	w.done, w.runtime, w.source, w.labels, w.unsaved, w.foreign, w.tidies = nil, false, false, false, false, false, false
	w.mu.Unlock()

	if unsaved {
		w.try("saving the pod", w.a.records.savePod(news))
	}
	if _, waiting := w.a.outbox.Newest(w.key, w.uid); foreign && !waiting {
		// Compare with what stands on the log from now on: a node that was thought lost has to say that it is not.
		w.reported = news.Pod.Status.DeepCopy()
	}
	now := time.Now()
	changed := false
	if runtime {
		w.look(ctx)
	}
	for _, f := range done {
		delete(w.busy, f.step.Op())
		if f.step.Kind != ladder.Pull && f.step.Kind != ladder.Fetch && w.rec.Container(f.step.Container).ID != f.id {
			continue // about an attempt that is over
		}
		w.rec.Did(f.step, f.out, now)
		changed = true
	}
	for name := range w.rec.Containers {
		changed = w.rec.Judge(name, w.verdicts(name)) || changed
	}
	if source || labels {
		changed = w.rec.Nudge(now) || changed
		w.refreshAt = now
	}
	if changed {
		w.save()
	}
	if tidies {
		w.tidy(ctx, now)
	}
}

func (w *worker) save() {
	w.try("saving the record", w.a.records.saveRecord(w.rec))
	w.publish()
}

// try is for what must not fail: without its records the agent would forget what it did.
func (w *worker) try(what string, err error) {
	if err != nil {
		w.a.fatal(err)
		w.a.log.Error(what, w.attrs(), events.LogError, err)
	}
}

func (w *worker) verdicts(name string) ladder.Verdicts {
	c := w.rec.Containers[name]
	if c == nil {
		return ladder.Verdicts{}
	}
	v := w.a.probes.Verdicts(w.uid, name, c.ID)
	return ladder.Verdicts{Startup: ladder.Verdict(v.Startup), Readiness: ladder.Verdict(v.Readiness), Liveness: ladder.Verdict(v.Liveness)}
}

func (w *worker) situation() ladder.Situation {
	w.mu.Lock()
	s := ladder.Situation{Pod: w.seen.Pod, Gone: w.gone, Record: w.rec, Instances: w.instances, Blind: w.blind, Evict: w.evict, Now: time.Now(),
		Probes: map[string]ladder.Verdicts{}, Busy: map[string]bool{}}
	w.mu.Unlock()
	for name := range w.rec.Containers {
		s.Probes[name] = w.verdicts(name)
	}
	for op := range w.busy {
		s.Busy[op] = true
	}
	return s
}

// wait sleeps until something happens.
func (w *worker) wait(ctx context.Context, until time.Time) {
	for _, t := range []time.Time{w.refreshAt, w.retryAt} {
		if !t.IsZero() && (until.IsZero() || t.Before(until)) {
			until = t
		}
	}
	var after <-chan time.Time
	if !until.IsZero() {
		timer := time.NewTimer(time.Until(until))
		defer timer.Stop()
		after = timer.C
	}
	select {
	case <-ctx.Done():
	case <-w.wake:
	case <-after:
	}
	if !w.retryAt.IsZero() && !time.Now().Before(w.retryAt) {
		w.retryAt = time.Time{}
		w.mu.Lock()
		w.runtime = true
		w.mu.Unlock()
	}
}

// supervise starts and stops probes, and refreshes volumes, as the situation wants it.
func (w *worker) supervise(s ladder.Situation) {
	for name, c := range w.rec.Containers {
		if !c.Running() {
			w.a.probes.Stop(w.uid, name)
			continue
		}
		if spec := ladder.FindContainer(s.Pod, name); spec != nil {
			w.a.probes.Watch(probe.Target{PodUID: w.uid, ID: c.ID, StartedAt: c.StartedAt, Passed: c.Passed, Ready: c.Ready, Place: w.place(spec, c.ID)})
		}
		if c.Kill != nil || w.rec.Stop != nil {
			w.a.probes.Drain(w.uid, name)
		}
	}
	if w.rec.Mounted && w.rec.Stop == nil {
		w.refresh(s.Pod)
	}
}
