package sim

import (
	"fmt"
	"strings"
	"time"

	"github.com/orlog-io/orlog/events"
)

// story is the history as text: a line an event, and notes of what the log does not tell.
type story struct {
	w      *world
	told   []line // of events alone
	newest []line // with notes
}

// line is an event with what it did, or a note. It becomes text when somebody reads it.
type line struct {
	note       string
	event      events.Event
	prev, next events.State
}

func (l line) String() string {
	if l.note != "" {
		return l.note
	}
	return describe(l.event, l.prev, l.next)
}

// tailLines is how much of the history a failure shows.
const tailLines = 120

func newStory(w *world) *story { return &story{w: w} }

func (s *story) event(e events.Event, prev, next events.State) {
	l := line{event: e, prev: prev, next: next}
	s.told = append(s.told, l)
	s.keep(l)
}

func (s *story) note(text string) {
	s.keep(line{note: fmt.Sprintf("       %s -- %s", since(s.w.clock.now), text)})
}

func (s *story) keep(l line) {
	if len(s.newest) > 4*tailLines {
		s.newest = append(s.newest[:0], s.newest[len(s.newest)-tailLines:]...)
	}
	s.newest = append(s.newest, l)
}

func (s *story) events() string { return text(s.told) + "\n" }

func (s *story) tail() string { return text(s.newest[max(0, len(s.newest)-tailLines):]) }

func text(lines []line) string {
	out := make([]string, len(lines))
	for i, l := range lines {
		out[i] = l.String()
	}
	return strings.Join(out, "\n")
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

// firstDifference tells where two histories part.
func firstDifference(want, got string) string {
	a, b := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return fmt.Sprintf("line %d\n want %s\n got  %s", i+1, a[i], b[i])
		}
	}
	return fmt.Sprintf("%d lines, want %d", len(b), len(a))
}
