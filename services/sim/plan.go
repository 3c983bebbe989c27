package sim

import (
	"math/rand/v2"
	"time"
)

// Plan says what a simulation is made of.
type Plan struct {
	// Nodes of so many Cores each carry Deployments, whose pods ask for half a core.
	Nodes, Cores, Deployments int
	// Length is how long people act and things go wrong; afterwards the world must come to rest.
	Length time.Duration
	// Deeds is the mean time between two things that people do (0: nothing but the Script); of these, Calm
	// leaves out whatever makes pods unavailable but by the control plane's own doing.
	Deeds  time.Duration
	Calm   bool
	Script []Deed
	Faults Faults
	// Heartbeats are on the volatile log at the beginning: its sequences are far ahead of the log's.
	Heartbeats int
}

// Deed is something that people do at a time after the beginning.
type Deed struct {
	After time.Duration
	Do    string // scale, roll, ... : see deeds
}

// Faults say how often something goes wrong; 0: never.
type Faults struct {
	// Append, Request and Conflict: one in so many appends fails, one in so many requests to the gateway is
	// not carried out or loses its answer, or meets with a conflict.
	Append, Request, Conflict int
	// Crashes: after one in so many writes the writer crashes before it learns what became of it.
	// Duplicates: one in so many deliveries repeats events that were delivered before.
	Crashes, Duplicates int
	// Mean times between outages of the log, between projections that get no events for a while, and
	// between crashes of a component.
	Outages, Delays, Restarts time.Duration
	// Mean times between whiles in which every other write meets with a conflict, and between jumps of a
	// component's clock, forward or back.
	Storms, Clocks time.Duration
	// Mean times between crashes of containers, and of agents and machines.
	Containers, Machines time.Duration
}

// PlanOf draws a plan from a seed: every kind of trouble is absent from some seeds and heavy in others.
func PlanOf(seed uint64) Plan {
	r := rand.New(rand.NewPCG(seed, 0x91a2))
	p := Plan{Nodes: 3 + r.IntN(3), Cores: 5, Deployments: 1 + r.IntN(3), Length: time.Duration(2+r.IntN(6)) * time.Minute,
		Deeds: time.Duration(2+r.IntN(15)) * time.Second, Calm: r.IntN(3) == 0}
	if r.IntN(2) == 0 {
		p.Heartbeats = 2000
	}
	if r.IntN(2) == 0 { // just enough room where all nodes are in service: pods often have to wait
		halves := (p.Deployments + 1) * (mostReplicas + mostSurge)
		p.Cores = (halves + 2*p.Nodes - 1) / (2 * p.Nodes)
	}
	some := func(least, most int) int {
		if r.IntN(3) == 0 {
			return 0
		}
		return least + r.IntN(most-least)
	}
	seconds := func(least, most int) time.Duration { return time.Duration(some(least, most)) * time.Second }
	f := &p.Faults
	f.Append, f.Request, f.Conflict = some(10, 200), some(10, 200), some(10, 200)
	f.Outages, f.Delays, f.Restarts = seconds(20, 120), seconds(3, 30), seconds(15, 120)
	if !p.Calm {
		f.Containers, f.Machines = seconds(5, 60), seconds(20, 180)
	}
	f.Crashes, f.Duplicates = some(20, 400), some(2, 50)
	f.Storms, f.Clocks = seconds(15, 120), seconds(15, 120)
	return p
}
