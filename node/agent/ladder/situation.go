package ladder

import (
	"time"

	v1 "k8s.io/api/core/v1"
)

// Situation is all that a decision about one pod looks at.
type Situation struct {
	// Pod is the newest known state of the pod's object.
	Pod *v1.Pod
	// Gone: the object was deleted from the log, or replaced by another of the same name.
	Gone   bool
	Record *Record
	// Instances are the containers that the runtime knows, by ID. Blind: it could not be asked yet, so that a
	// missing one means nothing.
	Instances map[string]Instance
	Blind     bool
	// Probes holds the verdicts about the current attempts, by container name.
	Probes map[string]Verdicts
	// Busy names what is under way in the background: see [Step.Op].
	Busy map[string]bool
	// Evict is set where the node wants the pod gone: the message for its status.
	Evict string
	Now   time.Time
}

// Instance is a container as the runtime sees it.
type Instance struct {
	ID         string
	Running    bool
	Exited     bool
	StartedAt  time.Time
	FinishedAt time.Time
	ExitCode   int32
	Signal     int32
	OOMKilled  bool
	Message    string
}

// Verdict is what a probe says.
type Verdict int

// Verdicts.
const (
	Unknown Verdict = iota
	Success
	Failure
)

// Verdicts are the probes' results about the current attempt of one container. The messages are the last
// failures' outputs.
type Verdicts struct {
	Startup, Readiness, Liveness Verdict
}

// IsSidecar reports whether an init container is restartable: it runs along with the pod.
func IsSidecar(c *v1.Container) bool {
	return c.RestartPolicy != nil && *c.RestartPolicy == v1.ContainerRestartPolicyAlways
}

// class is the kind of a container of a pod.
type class int

const (
	initClass class = iota
	sidecarClass
	regularClass
	ephemeralClass
)

// each calls f for all containers in start order: ephemeral ones last.
func each(pod *v1.Pod, f func(c *v1.Container, k class)) {
	for i := range pod.Spec.InitContainers {
		c := &pod.Spec.InitContainers[i]
		if IsSidecar(c) {
			f(c, sidecarClass)
		} else {
			f(c, initClass)
		}
	}
	for i := range pod.Spec.Containers {
		f(&pod.Spec.Containers[i], regularClass)
	}
	for i := range pod.Spec.EphemeralContainers {
		c := v1.Container(pod.Spec.EphemeralContainers[i].EphemeralContainerCommon)
		f(&c, ephemeralClass)
	}
}

// FindContainer returns a container of a pod by name, nil where there is none.
func FindContainer(pod *v1.Pod, name string) *v1.Container {
	var found *v1.Container
	each(pod, func(c *v1.Container, _ class) {
		if c.Name == name {
			found = c
		}
	})
	return found
}

// initialized: some regular container was started once, so that regular init containers never run again.
func (s Situation) initialized() bool {
	for i := range s.Pod.Spec.Containers {
		if s.Record.peek(s.Pod.Spec.Containers[i].Name).ID != "" {
			return true
		}
	}
	return false
}

// grace is how long a stopping pod's containers get between SIGTERM and SIGKILL.
func (s Situation) grace() time.Duration {
	g := int64(v1.DefaultTerminationGracePeriodSeconds)
	if s.Pod.Spec.TerminationGracePeriodSeconds != nil {
		g = *s.Pod.Spec.TerminationGracePeriodSeconds
	}
	if s.Pod.DeletionGracePeriodSeconds != nil {
		g = *s.Pod.DeletionGracePeriodSeconds
	}
	if s.Record.Stop != nil && s.Record.Stop.Reason == StopEvicted {
		g = 0
	}
	return time.Duration(max(g, 1)) * time.Second
}
