package narrator

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/lru"

	"github.com/orlog-io/orlog/events"
)

// Bounds of what is written about one object, as upstream's recorders have them.
const (
	// alike is how many Events that differ only in their message are told singly within alikeFor; further ones
	// are combined in one.
	alike    = 9
	alikeFor = 10 * time.Minute
	// chapterFor is how long after the last time a repetition counts as the same Event, as Kubernetes has it;
	// later it makes a new one.
	chapterFor = time.Hour
	// burst is how many writes a component has for one object; it gets a new one every refill.
	burst  = 25
	refill = 5 * time.Minute
	// remembered is how many stories, and how many allowances, are kept in mind.
	remembered = 4096
)

const combinedPrefix = "(combined from similar events): "

// memory is what the narrator keeps in mind of what it has told: it counts what repeats, combines what is
// alike and drops floods. It goes by the time of the log, not of a clock, so that equal logs are told equally.
// It may be lost: recall brings back what the Events themselves say.
type memory struct {
	stories    *lru.Cache // story -> *chapter
	allowances *lru.Cache // story without reason -> *allowance
}

// story is what alike Events have in common.
type story struct {
	source corev1.EventSource
	about  corev1.ObjectReference
	kind   string
	reason string
}

// chapter is what was told of a story: the Events by message, and the one that combines those that are too
// many.
type chapter struct {
	told     map[string]*corev1.Event
	combined *corev1.Event
}

// allowance is what a component may still write about an object.
type allowance struct {
	left float64
	at   time.Time
}

func newMemory() *memory { return &memory{lru.New(remembered), lru.New(remembered)} }

func storyOf(e *corev1.Event) story {
	about := e.InvolvedObject
	about.ResourceVersion = ""
	return story{e.Source, about, e.Type, e.Reason}
}

// note takes up a telling. It returns the Event as it must be from now on, and whether that is a new one;
// nil where nothing is to be written: it was told before, or too much is told about the object.
func (m *memory) note(e *corev1.Event) (next *corev1.Event, fresh bool) {
	at := e.LastTimestamp.Time
	c := m.chapter(e, at)
	old := c.told[e.Message]
	combine := old == nil && c.crowded(at)
	if combine {
		old = c.combined
	}
	if old != nil && sequenceOf(old) >= sequenceOf(e) {
		return nil, false
	}
	if !m.allow(e, at) {
		return nil, false
	}
	next = e.DeepCopy()
	if combine {
		next.Message = shorten(combinedPrefix + e.Message)
	}
	if old != nil {
		next.Name, next.FirstTimestamp, next.Count = old.Name, old.FirstTimestamp, old.Count+1
	}
	c.remember(next, e.Message, combine)
	return next, old == nil
}

// chapter is the one that a telling belongs to, without what is too old to be counted up.
func (m *memory) chapter(e *corev1.Event, at time.Time) *chapter {
	s := storyOf(e)
	if known, ok := m.stories.Get(s); ok {
		c := known.(*chapter)
		maps.DeleteFunc(c.told, func(_ string, e *corev1.Event) bool { return at.Sub(e.LastTimestamp.Time) > chapterFor })
		if c.combined != nil && at.Sub(c.combined.LastTimestamp.Time) > chapterFor {
			c.combined = nil
		}
		return c
	}
	c := &chapter{told: map[string]*corev1.Event{}}
	m.stories.Add(s, c)
	return c
}

// crowded says whether so much was told lately that what is new has to be combined.
func (c *chapter) crowded(at time.Time) bool {
	n := 0
	for _, e := range c.told {
		if at.Sub(e.LastTimestamp.Time) <= alikeFor {
			n++
		}
	}
	return n >= alike
}

func (c *chapter) remember(e *corev1.Event, message string, combined bool) {
	if combined {
		c.combined = e
	} else {
		c.told[message] = e
	}
}

// allow takes one from an allowance, if there is one left.
func (m *memory) allow(e *corev1.Event, at time.Time) bool {
	s := storyOf(e)
	s.reason, s.about.FieldPath = "", ""
	a := &allowance{left: burst, at: at}
	if known, ok := m.allowances.Get(s); ok {
		a = known.(*allowance)
	}
	m.allowances.Add(s, a)
	if at.After(a.at) {
		a.left, a.at = min(burst, a.left+float64(at.Sub(a.at))/float64(refill)), at
	}
	if a.left < 1 {
		return false
	}
	a.left--
	return true
}

// recall takes up Events that were told, of which others' are ignored. It returns the newest event of the log
// that they tell of; 0 where there is none.
func (m *memory) recall(recent []*corev1.Event) events.Sequence {
	told := slices.DeleteFunc(slices.Clone(recent), func(e *corev1.Event) bool { return sequenceOf(e) == 0 })
	slices.SortFunc(told, func(a, b *corev1.Event) int { return cmp.Compare(sequenceOf(a), sequenceOf(b)) })
	var last events.Sequence
	for _, e := range told {
		last = sequenceOf(e)
		at := e.LastTimestamp.Time
		m.chapter(e, at).remember(e, e.Message, strings.HasPrefix(e.Message, combinedPrefix))
		for range min(e.Count, burst) {
			m.allow(e, at)
		}
	}
	return last
}

// sequenceOf is the newest event of the log that an Event tells of; 0 where it is not the narrator's.
func sequenceOf(e *corev1.Event) events.Sequence {
	seq, err := events.ParseSequence(e.Annotations[sequenceAnnotation])
	if err != nil {
		return 0
	}
	return seq
}
