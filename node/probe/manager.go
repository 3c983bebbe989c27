package probe

import (
	"context"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
)

// Target is one running attempt of a container.
type Target struct {
	PodUID string
	// ID is the attempt's container ID: another ID under the same name starts its probes afresh.
	ID        string
	StartedAt time.Time
	// Passed and Ready are verdicts from before a restart of the agent.
	Passed, Ready bool
	Place         Place
}

// Verdicts are what the probes of an attempt have come to. Unknown where there is no such probe.
type Verdicts struct{ Startup, Readiness, Liveness Verdict }

// Options configure a Manager. The functions are called from the probes' goroutines and must not block.
type Options struct {
	// Changed: a verdict about a container of this pod changed.
	Changed func(podUID string)
	// Failed: a probe was answered badly (for the event Unhealthy).
	Failed func(t Target, k Kind, output string)
}

// Manager runs the probes of a node. Its methods may be called from many goroutines.
type Manager struct {
	o   Options
	ctx context.Context
	wg  sync.WaitGroup

	mu   sync.Mutex
	runs map[string]map[string]*run // by pod uid, container name
}

// run is the probes of one attempt.
type run struct {
	id       string
	cancel   context.CancelFunc
	drain    context.CancelFunc // of startup and liveness
	started  chan struct{}      // closed when the startup probe has succeeded
	verdicts Verdicts
}

// New returns a manager whose probes end with ctx.
func New(ctx context.Context, o Options) *Manager {
	return &Manager{o: o, ctx: ctx, runs: map[string]map[string]*run{}}
}

// Wait returns when all probes have ended: after the manager's context has.
func (m *Manager) Wait() { m.wg.Wait() }

// Watch starts the probes of an attempt, unless they run already, and ends those of the attempt before.
func (m *Manager) Watch(t Target) {
	c := t.Place.Container
	if c.StartupProbe == nil && c.ReadinessProbe == nil && c.LivenessProbe == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	pod := m.runs[t.PodUID]
	if pod == nil {
		pod = map[string]*run{}
		m.runs[t.PodUID] = pod
	}
	if old := pod[c.Name]; old != nil {
		if old.id == t.ID {
			return
		}
		old.cancel()
	}
	ctx, cancel := context.WithCancel(m.ctx)
	vital, drain := context.WithCancel(ctx)
	r := &run{id: t.ID, cancel: cancel, drain: drain, started: make(chan struct{})}
	pod[c.Name] = r
	begin := func(ctx context.Context, k Kind, p *v1.Probe, was bool, to *Verdict) {
		if p == nil {
			return
		}
		counter := NewCounter(k)
		if was {
			counter.Verdict = Success
		}
		*to = counter.Verdict
		m.wg.Go(func() { m.probe(ctx, t, r, k, p, counter, to) })
	}
	if c.StartupProbe == nil || t.Passed {
		close(r.started)
	}
	begin(ctx, Readiness, c.ReadinessProbe, t.Ready, &r.verdicts.Readiness)
	begin(vital, Liveness, c.LivenessProbe, false, &r.verdicts.Liveness)
	if t.Passed && c.StartupProbe != nil {
		r.verdicts.Startup = Success
	} else {
		begin(vital, Startup, c.StartupProbe, false, &r.verdicts.Startup)
	}
}

// Drain ends all probes but readiness of a container that is about to end, or with name "" of the whole pod: nobody
// restarts it any more, but who sends it requests wants to know whether it still takes some.
func (m *Manager) Drain(podUID, name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for n, r := range m.runs[podUID] {
		if name == "" || n == name {
			r.drain()
		}
	}
}

// Stop ends the probes of a container, or with name "" those of the whole pod.
func (m *Manager) Stop(podUID, name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	pod := m.runs[podUID]
	for n, r := range pod {
		if name == "" || n == name {
			r.cancel()
			delete(pod, n)
		}
	}
	if len(pod) == 0 {
		delete(m.runs, podUID)
	}
}

// Verdicts returns what the probes of an attempt have come to; all Unknown where it has none.
func (m *Manager) Verdicts(podUID, name, id string) Verdicts {
	m.mu.Lock()
	defer m.mu.Unlock()
	if r := m.runs[podUID][name]; r != nil && r.id == id {
		return r.verdicts
	}
	return Verdicts{}
}

// settling is how long nobody is told of failures after a start: the first question often comes before the
// program has opened its port.
const settling = time.Second

// probe is the life of one probe.
func (m *Manager) probe(ctx context.Context, t Target, r *run, k Kind, p *v1.Probe, counter Counter, to *Verdict) {
	if k != Startup {
		select {
		case <-ctx.Done():
			return
		case <-r.started:
		}
	}
	first := t.StartedAt.Add(time.Duration(p.InitialDelaySeconds) * time.Second)
	if now := time.Now(); first.Before(now) {
		first = now
	}
	pace := newPace(p, k, first)
	at, counts := first, true
	for {
		if !sleepUntil(ctx, at) {
			return
		}
		asking, cancel := context.WithTimeout(ctx, seconds(p.TimeoutSeconds, 1))
		ok, output := Check(asking, p.ProbeHandler, t.Place)
		cancel()
		if ctx.Err() != nil {
			return
		}
		if !ok && counts && m.o.Failed != nil && time.Since(t.StartedAt) > settling {
			m.o.Failed(t, k, output)
		}
		if (ok || counts) && counter.Observe(p, ok) {
			m.judge(t, r, k, counter.Verdict, to)
			if k == Startup || k == Liveness && !ok {
				return // the next attempt starts afresh
			}
		}
		pace.asked(time.Now(), counts, ok && counter.Verdict == Success)
		at, counts = pace.next(time.Now())
	}
}

func (m *Manager) judge(t Target, r *run, k Kind, v Verdict, to *Verdict) {
	m.mu.Lock()
	*to = v
	if k == Startup && v == Success {
		close(r.started)
	}
	m.mu.Unlock()
	m.o.Changed(t.PodUID)
}

func sleepUntil(ctx context.Context, at time.Time) bool {
	d := time.Until(at)
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
