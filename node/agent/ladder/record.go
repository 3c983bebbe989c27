package ladder

import (
	"time"

	v1 "k8s.io/api/core/v1"
)

// Record is what the agent durably remembers about one pod: all that neither the log nor the runtime knows.
type Record struct {
	UID       string `json:"uid"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	// StartTime is when the agent first saw the pod.
	StartTime time.Time `json:"startTime"`

	Admitted bool       `json:"admitted,omitempty"`
	Rejected *Rejection `json:"rejected,omitempty"`
	// NetNS and IPs are the network's; Connected once it is set up. A pod on the host's network is connected
	// with NetNS "".
	Connected bool     `json:"connected,omitempty"`
	NetNS     string   `json:"netNS,omitempty"`
	IPs       []string `json:"ips,omitempty"`
	// Open: the sandbox is open. Fetched: the images that are volumes are here. Mounted: the volumes are.
	Open    bool `json:"open,omitempty"`
	Fetched bool `json:"fetched,omitempty"`
	Mounted bool `json:"mounted,omitempty"`
	// Trouble is why the pod as a whole does not climb on (network, sandbox, volumes).
	Trouble *Trouble `json:"trouble,omitempty"`

	// Resize is why the resources that the spec asks for were not set aside.
	Resize *Pending `json:"resize,omitempty"`

	// Containers by name: init, regular and ephemeral.
	Containers map[string]*Container `json:"containers,omitempty"`

	// Stop is set once the pod goes down; it never climbs again.
	Stop *Stop `json:"stop,omitempty"`
	// Down: sandbox, volumes and network are gone. Stopped: that was reported after a deletion was asked for.
	Down    bool `json:"down,omitempty"`
	Stopped bool `json:"stopped,omitempty"`
}

// Rejection is why a node refused a pod; its phase is Failed then.
type Rejection struct {
	Reason  string `json:"reason"`
	Message string `json:"message"`
}

// Trouble is a step that failed and when it may be tried again.
type Trouble struct {
	Reason  string        `json:"reason"`
	Message string        `json:"message"`
	At      time.Time     `json:"at"`
	Delay   time.Duration `json:"delay"`
}

// Pending is a resize that the node could not allow for one generation of the pod.
type Pending struct {
	Reason     string    `json:"reason"`
	Message    string    `json:"message"`
	At         time.Time `json:"at"`
	Generation int64     `json:"generation"`
}

// Until is when the step may be tried again.
func (t *Trouble) Until() time.Time { return t.At.Add(t.Delay) }

// turn is when something about it changes: the status tells ErrImagePull from ImagePullBackOff by time.
func (t *Trouble) turn(now time.Time) time.Time {
	until := t.Until()
	if calm := t.At.Add(fresh); now.Before(calm) && calm.Before(until) {
		return calm
	}
	return until
}

// Container is the record of one container of the pod.
type Container struct {
	// ID is the current attempt's container, "" before the first. Attempt counts from 0; it is the restart count.
	ID      string `json:"id,omitempty"`
	Attempt int    `json:"attempt,omitempty"`
	// Image is the reference in the spec that the current attempt was started from; ImageID what it resolved to.
	Image   string `json:"image,omitempty"`
	ImageID string `json:"imageID,omitempty"`
	// Pulled: the image for the next attempt is at hand. Fetched: it had to come from a registry.
	Pulled  bool `json:"pulled,omitempty"`
	Fetched bool `json:"fetched,omitempty"`
	// Allocated is what the node has set aside, Actual what the current attempt has; ResizeTrouble why it has not
	// got the former yet.
	Allocated     *v1.ResourceRequirements `json:"allocated,omitempty"`
	Actual        *v1.ResourceRequirements `json:"actual,omitempty"`
	ResizeTrouble *Trouble                 `json:"resizeTrouble,omitempty"`
	// User is who the current attempt runs as.
	User *v1.ContainerUser `json:"user,omitempty"`
	// StartedAt is when the current attempt began to run.
	StartedAt time.Time `json:"startedAt,omitzero"`
	// Exit is how the current attempt ended, Last how the attempt before it did.
	Exit *Exit `json:"exit,omitempty"`
	Last *Exit `json:"last,omitempty"`
	// Backoff is the pause before the next restart, BackoffSet when it was set.
	Backoff    time.Duration `json:"backoff,omitempty"`
	BackoffSet time.Time     `json:"backoffSet,omitzero"`
	// Trouble is why no attempt can be started (image, configuration).
	Trouble *Trouble `json:"trouble,omitempty"`
	// Hooked: the postStart hook of the current attempt is done. Passed: its startup probe succeeded. Ready: its
	// readiness probe's last verdict.
	Hooked bool `json:"hooked,omitempty"`
	Passed bool `json:"passed,omitempty"`
	Ready  bool `json:"ready,omitempty"`
	// Again: an init container must run once more, though it succeeded before the machine was restarted.
	Again bool `json:"again,omitempty"`
	// Kill is set while the current attempt is being stopped.
	Kill *Kill `json:"kill,omitempty"`
}

// Running says that an attempt was started and is not known to have ended.
func (c *Container) Running() bool { return c.ID != "" && c.Exit == nil }

// Exit is how an attempt ended.
type Exit struct {
	ID         string    `json:"id,omitempty"`
	Code       int32     `json:"code"`
	Signal     int32     `json:"signal,omitempty"`
	Reason     string    `json:"reason"`
	Message    string    `json:"message,omitempty"`
	StartedAt  time.Time `json:"startedAt,omitzero"`
	FinishedAt time.Time `json:"finishedAt,omitzero"`
	// Forced: the agent stopped it in order to restart it (failed probe or hook, new image): policy OnFailure
	// restarts it whatever its exit code.
	Forced bool `json:"forced,omitempty"`
}

// Kill is a stop under way.
type Kill struct {
	Reason  string        `json:"reason"`
	Message string        `json:"message"`
	At      time.Time     `json:"at"`
	Grace   time.Duration `json:"grace"`
	// Hooked: the preStop hook is done or not wanted. TermAt and KillAt: when the signals were sent.
	Hooked bool      `json:"hooked,omitempty"`
	TermAt time.Time `json:"termAt,omitzero"`
	KillAt time.Time `json:"killAt,omitzero"`
}

// Stop reasons.
const (
	// StopDeleted: the pod is being deleted, or its object is gone.
	StopDeleted = "Deleted"
	// StopCompleted: no container will run again.
	StopCompleted = "Completed"
	// StopDeadline: activeDeadlineSeconds is over.
	StopDeadline = "DeadlineExceeded"
	// StopEvicted: the node is short of something.
	StopEvicted = "Evicted"
)

// Stop is why and since when the pod goes down.
type Stop struct {
	Reason  string    `json:"reason"`
	Message string    `json:"message,omitempty"`
	At      time.Time `json:"at"`
}

// NewRecord is the record of a pod that the agent sees for the first time.
func NewRecord(pod *v1.Pod, now time.Time) *Record {
	return &Record{UID: string(pod.UID), Namespace: pod.Namespace, Name: pod.Name, StartTime: now, Containers: map[string]*Container{}}
}

// Container returns the record of a container, made where it is missing.
func (r *Record) Container(name string) *Container {
	c := r.Containers[name]
	if c == nil {
		c = &Container{}
		if r.Containers == nil {
			r.Containers = map[string]*Container{}
		}
		r.Containers[name] = c
	}
	return c
}

// peek returns the record of a container without making it.
func (r *Record) peek(name string) *Container {
	if c := r.Containers[name]; c != nil {
		return c
	}
	return &Container{}
}
