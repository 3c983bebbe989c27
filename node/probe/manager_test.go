package probe

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	v1 "k8s.io/api/core/v1"
)

// subject is a container whose answers the test decides, in virtual time.
type subject struct {
	*testing.T
	m      *Manager
	begun  time.Time
	mu     sync.Mutex
	answer func(since time.Duration) (int, error)
	asked  []string // when, in seconds
	told   []string // verdict changes
	failed []string
}

func watch(t *testing.T, c *v1.Container, answer func(since time.Duration) (int, error)) *subject {
	s := &subject{T: t, begun: time.Now(), answer: answer}
	ctx, cancel := context.WithCancel(context.Background())
	s.m = New(ctx, Options{
		Changed: func(uid string) {
			v := s.m.Verdicts(uid, c.Name, "id1")
			s.mu.Lock()
			defer s.mu.Unlock()
			s.told = append(s.told, fmt.Sprintf("%v:%d%d%d", time.Since(s.begun), v.Startup, v.Readiness, v.Liveness))
		},
		Failed: func(_ Target, k Kind, output string) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.failed = append(s.failed, fmt.Sprintf("%v:%s:%s", time.Since(s.begun), k, output))
		}})
	t.Cleanup(func() {
		cancel()
		s.m.Wait()
	})
	s.m.Watch(Target{PodUID: "u1", ID: "id1", StartedAt: s.begun, Place: Place{Container: c, Exec: func(ctx context.Context, command []string) (int, string, error) {
		s.mu.Lock()
		s.asked = append(s.asked, time.Since(s.begun).String())
		s.mu.Unlock()
		code, err := s.answer(time.Since(s.begun))
		if err == nil && code < 0 { // hangs
			<-ctx.Done()
			return 0, "", ctx.Err()
		}
		return code, "said " + command[0], err
	}}})
	return s
}

func probeOf(name string, edit func(*v1.Probe)) *v1.Probe {
	p := &v1.Probe{ProbeHandler: v1.ProbeHandler{Exec: &v1.ExecAction{Command: []string{name}}}, PeriodSeconds: 10, TimeoutSeconds: 1, SuccessThreshold: 1, FailureThreshold: 3}
	if edit != nil {
		edit(p)
	}
	return p
}

// after lets time pass and tells what had happened by then.
func (s *subject) after(d time.Duration) (asked, told, failed string) {
	time.Sleep(d)
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.asked, " "), strings.Join(s.told, " "), strings.Join(s.failed, " ")
}

func TestReadinessIsFoundEarlyAndLostAfterTheThreshold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &v1.Container{Name: "main", ReadinessProbe: probeOf("ready", nil)}
		s := watch(t, c, func(since time.Duration) (int, error) {
			if since < 300*time.Millisecond || since > 15*time.Second {
				return 1, nil
			}
			return 0, nil
		})
		asked, told, _ := s.after(time.Second)
		if got, want := asked, "0s 50ms 150ms 350ms"; got != want {
			t.Errorf("asked at %s, want %s", got, want)
		}
		if got, want := told, "350ms:010"; got != want {
			t.Errorf("told %s, want %s", got, want)
		}
		_, told, failed := s.after(40 * time.Second)
		if got, want := told, "350ms:010 40s:020"; got != want {
			t.Errorf("told %s, want %s", got, want)
		}
		if got, want := failed, "20s:Readiness:said ready 30s:Readiness:said ready 40s:Readiness:said ready"; got != want {
			t.Errorf("failures %s, want %s", got, want)
		}
	})
}

func TestStartupHoldsBackTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &v1.Container{Name: "main", StartupProbe: probeOf("start", func(p *v1.Probe) { p.FailureThreshold = 4 }), LivenessProbe: probeOf("live", func(p *v1.Probe) { p.FailureThreshold = 1 })}
		s := watch(t, c, func(since time.Duration) (int, error) {
			if since < 25*time.Second {
				return 1, nil
			}
			return 0, nil
		})
		asked, _, _ := s.after(31 * time.Second)
		if v := s.m.Verdicts("u1", "main", "id1"); v.Startup != Success || v.Liveness != Success {
			t.Errorf("verdicts %+v; asked at %v", v, asked)
		}
	})
}

func TestLivenessFailsAndIsThenLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &v1.Container{Name: "main", LivenessProbe: probeOf("live", func(p *v1.Probe) { p.InitialDelaySeconds, p.FailureThreshold = 5, 2 })}
		s := watch(t, c, func(since time.Duration) (int, error) {
			if since < 10*time.Second {
				return -1, nil // hangs: the time limit is an answer too
			}
			return 0, errors.New("no such container")
		})
		asked, told, _ := s.after(time.Minute)
		if got, want := asked, "5s 15s"; got != want {
			t.Errorf("asked at %s, want %s", got, want)
		}
		if got, want := told, "15s:002"; got != want {
			t.Errorf("told %s, want %s", got, want)
		}
	})
}

func TestVerdictsOutliveTheAgentAndEndWithTheAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &v1.Container{Name: "main", StartupProbe: probeOf("start", nil), ReadinessProbe: probeOf("ready", nil)}
		ctx, cancel := context.WithCancel(context.Background())
		m := New(ctx, Options{Changed: func(string) {}})
		defer m.Wait()
		defer cancel()
		place := Place{Container: c, Exec: func(context.Context, []string) (int, string, error) { return 1, "", nil }}
		m.Watch(Target{PodUID: "u1", ID: "id1", StartedAt: time.Now(), Passed: true, Ready: true, Place: place})
		if v := m.Verdicts("u1", "main", "id1"); v.Startup != Success || v.Readiness != Success {
			t.Errorf("verdicts %+v", v)
		}
		m.Watch(Target{PodUID: "u1", ID: "id2", StartedAt: time.Now(), Place: place})
		if v := m.Verdicts("u1", "main", "id1"); v != (Verdicts{}) {
			t.Errorf("the attempt before still has verdicts %+v", v)
		}
		if v := m.Verdicts("u1", "main", "id2"); v.Startup != Unknown || v.Readiness != Failure {
			t.Errorf("verdicts %+v", v)
		}
		m.Stop("u1", "")
		if v := m.Verdicts("u1", "main", "id2"); v != (Verdicts{}) {
			t.Errorf("stopped, but %+v", v)
		}
	})
}

// A container that is about to end is not judged alive or dead any more, but still as to whether it takes requests.
func TestReadinessGoesOnWhileStopping(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &v1.Container{Name: "main", ReadinessProbe: probeOf("ready", nil), LivenessProbe: probeOf("alive", nil)}
		s := watch(t, c, func(since time.Duration) (int, error) {
			if since > 15*time.Second {
				return 1, nil
			}
			return 0, nil
		})
		s.after(14 * time.Second)
		s.m.Drain("u1", "")
		_, told, failed := s.after(2 * time.Minute)
		if v := s.m.Verdicts("u1", "main", "id1"); v.Readiness != Failure || v.Liveness == Failure {
			t.Errorf("verdicts %+v after %s", v, told)
		}
		if strings.Contains(failed, "Liveness") || !strings.Contains(failed, "Readiness") {
			t.Errorf("failed: %s", failed)
		}
		s.m.Stop("u1", "")
		before, _, _ := s.after(0)
		if after, _, _ := s.after(time.Minute); after != before {
			t.Errorf("asked after the end: %s", strings.TrimPrefix(after, before))
		}
	})
}
