package sim

import (
	"fmt"
	"strings"
	"time"

	"github.com/orlog-io/orlog/events"
)

// story is the history as text: a line an event, and notes of what the log does not tell.
type story struct {
	w     *world
	lines []string // of events alone
	all   []string // with notes: the newest ones
}

// tailLines is how much of the history a failure shows.
const tailLines = 120

func newStory(w *world) *story { return &story{w: w} }

func (s *story) event(e events.Event, prev, next events.State) {
	line := describe(e, prev, next)
	s.lines = append(s.lines, line)
	s.keep(line)
}

func (s *story) note(text string) {
	s.keep(fmt.Sprintf("       %s -- %s", since(s.w.clock.now), text))
}

func (s *story) keep(line string) {
	if len(s.all) > 4*tailLines {
		s.all = append(s.all[:0], s.all[len(s.all)-tailLines:]...)
	}
	s.all = append(s.all, line)
}

func (s *story) events() string { return strings.Join(s.lines, "\n") + "\n" }

func (s *story) tail() string {
	return strings.Join(s.all[max(0, len(s.all)-tailLines):], "\n")
}

func since(t time.Time) string {
	d := t.Sub(epoch)
	return fmt.Sprintf("%02d:%06.3f", int(d.Minutes()), (d % time.Minute).Seconds())
}

// describe is one event in a line: sequence, time, what, about which object, by whom, why, and what changed.
func describe(e events.Event, prev, next events.State) string {
	who := e.Actor[strings.LastIndexByte(e.Actor, ':')+1:]
	why := ""
	if e.Cause != 0 {
		why = fmt.Sprintf(" <- %d", e.Cause)
	}
	key := e.Subject.Key
	name := key.Name
	if key.Namespace != "" {
		name = key.Namespace + "/" + name
	}
	return fmt.Sprintf("%6d %s %s %s by %s%s%s", e.Sequence, since(e.Stored), strings.TrimPrefix(e.Type, events.TypePrefix), name, who, why, details(e, prev, next))
}

// details are the few fields by which a rollout is followed.
func details(e events.Event, prev, next events.State) string {
	if e.IsDeletion() || !next.Exists() {
		return ""
	}
	if e.Subject.Class == events.Observed && next.Revision != e.Sequence {
		return " (ignored)"
	}
	is, was := parse(next.Object), object{}
	if prev.Exists() && prev.UID == next.UID {
		was = parse(prev.Object)
	}
	var out []string
	changed := func(label string, from func(object) any) {
		if a, b := from(was), from(is); b != nil && !same(a, b) {
			out = append(out, fmt.Sprintf("%s=%v", label, b))
		}
	}
	changed("replicas", func(o object) any { return o.spec()["replicas"] })
	changed("image", func(o object) any {
		containers := o.spec().read("template").read("spec").list("containers")
		if len(containers) == 0 {
			return nil
		}
		c, _ := containers[0].(map[string]any)
		return c["image"]
	})
	changed("node", func(o object) any { return o.spec()["nodeName"] })
	changed("paused", func(o object) any { return o.spec()["paused"] })
	changed("unschedulable", func(o object) any { return o.spec()["unschedulable"] })
	changed("deleting", func(o object) any { return o.meta()["deletionTimestamp"] })
	changed("phase", func(o object) any { return o.read("status")["phase"] })
	for _, field := range []string{"replicas", "readyReplicas", "availableReplicas", "updatedReplicas"} {
		changed("status."+field, func(o object) any { return o.read("status")[field] })
	}
	if len(out) == 0 {
		return ""
	}
	return ": " + strings.Join(out, " ")
}
