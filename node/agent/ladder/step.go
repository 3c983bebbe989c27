package ladder

import (
	"time"
)

// Kind names a step.
type Kind string

// The steps, in about the order in which a pod meets them.
const (
	Admit     Kind = "admit"     // check resources and host ports
	Connect   Kind = "connect"   // set up the network
	Open      Kind = "open"      // open the sandbox
	Fetch     Kind = "fetch"     // get the images that are volumes; in the background
	Mount     Kind = "mount"     // set up the volumes
	Allocate  Kind = "allocate"  // set aside the resources that the spec asks for now
	Resize    Kind = "resize"    // give a running container what was set aside
	Pull      Kind = "pull"      // get the image of a container; in the background
	Start     Kind = "start"     // run an attempt of a container
	PostStart Kind = "poststart" // run the hook; in the background
	Exited    Kind = "exited"    // record how an attempt ended
	Doom      Kind = "doom"      // decide to stop a container: Reason, Message, Grace
	Stopping  Kind = "stopping"  // decide to stop the pod: Reason, Message
	PreStop   Kind = "prestop"   // run the hook; in the background
	Term      Kind = "term"      // send the stop signal
	KillNow   Kind = "kill"      // send SIGKILL
	Teardown  Kind = "teardown"  // close the sandbox, unmount, disconnect
	Finish    Kind = "finish"    // report the pod stopped
	Forget    Kind = "forget"    // drop all that is left
	Wait      Kind = "wait"      // nothing to do before Until (zero: before something happens)
)

// Step is one thing to do.
type Step struct {
	Kind Kind
	// Container is its name, "" for steps of the whole pod.
	Container string
	Reason    string
	Message   string
	Grace     time.Duration
	Until     time.Time
}

// Background tells whether the step may take long and is performed beside the ladder.
func (s Step) Background() bool {
	return s.Kind == Fetch || s.Kind == Pull || s.Kind == PostStart || s.Kind == PreStop
}

// Op is the step's name in Situation.Busy.
func (s Step) Op() string { return string(s.Kind) + "/" + s.Container }

func (s Situation) busy(k Kind, container string) bool {
	return s.Busy[Step{Kind: k, Container: container}.Op()]
}

// first is step if there is something to do, else the earlier of two waits.
func first(step, wait Step) Step {
	if step.Kind != Wait {
		return step
	}
	return sooner(step, wait)
}

// sooner is the earlier of two waits.
func sooner(a, b Step) Step {
	switch {
	case a.Kind == "":
		return b
	case b.Kind == "":
		return a
	case a.Until.IsZero():
		return b
	case b.Until.IsZero() || a.Until.Before(b.Until):
		return a
	}
	return b
}
