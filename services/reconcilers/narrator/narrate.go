package narrator

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/services/loop"
)

// Telling is an Event object, as it is where nothing like it was told before, and who writes it.
type Telling struct {
	Event *corev1.Event
	As    loop.Identity
	// Cause is the event of the log that is told.
	Cause events.Cause
}

// sequenceAnnotation of an Event object is the newest event of the log that it tells of. It is how the
// narrator knows its own Events, and where it stopped.
const sequenceAnnotation = "orlog.io/sequence"

// tale says what is told about the events of a resource that one actor has appended.
type tale struct {
	class           events.Class
	group, resource string
	// actor appended the event: one that ends in ":" begins the actor's name, "" is anybody.
	actor string
	tell  func(scene) ([]remark, error)
}

// scene is an event of the log to be told.
type scene struct {
	events.Event
	object object
}

// remark is one thing to say: who says it, and what about.
type remark struct {
	by      voice
	about   corev1.ObjectReference
	kind    string
	reason  string
	action  string
	message string
}

// voice is a component that Events come from, and who writes them.
type voice struct {
	component, host string
	as              loop.Identity
}

// Narrate says what is told about one event of the log; nothing about most. It is pure. An error means that
// the event's object or changes cannot be read.
func Narrate(e events.Event) ([]Telling, error) {
	var remarks []remark
	var s *scene
	for _, t := range tales {
		if !t.fits(e) {
			continue
		}
		if s == nil {
			o, err := parse(e.Object)
			if err != nil {
				return nil, fmt.Errorf("telling of event %d: %w", e.Sequence, err)
			}
			s = &scene{e, o}
		}
		said, err := t.tell(*s)
		if err != nil {
			return nil, fmt.Errorf("telling of event %d: %w", e.Sequence, err)
		}
		remarks = append(remarks, said...)
	}
	return tellings(e, remarks), nil
}

func (t tale) fits(e events.Event) bool {
	k := e.Subject.Key
	if e.Subject.Class != t.class || k.Group != t.group || k.Resource != t.resource {
		return false
	}
	return t.actor == "" || t.actor == e.Actor || (strings.HasSuffix(t.actor, ":") && strings.HasPrefix(e.Actor, t.actor))
}

func tellings(e events.Event, remarks []remark) []Telling {
	var out []Telling
	names := map[string]int{}
	for _, r := range remarks {
		namespace := r.about.Namespace
		if namespace == "" {
			namespace = metav1.NamespaceDefault
		}
		name := eventName(r.about.Name, e.Sequence, names[namespace+"/"+r.about.Name])
		names[namespace+"/"+r.about.Name]++
		at := metav1.NewTime(e.Stored.UTC().Truncate(time.Second))
		out = append(out, Telling{As: r.by.as, Cause: events.CauseOf(e), Event: &corev1.Event{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name,
				Annotations: map[string]string{sequenceAnnotation: e.Sequence.String()}},
			InvolvedObject: r.about,
			Type:           r.kind, Reason: r.reason, Action: r.action, Message: shorten(r.message),
			Source:              corev1.EventSource{Component: r.by.component, Host: r.by.host},
			ReportingController: r.by.component, ReportingInstance: r.by.host,
			FirstTimestamp: at, LastTimestamp: at, Count: 1,
		}})
	}
	return out
}

// maxName is how long an object's name may be.
const maxName = 253

// eventName is <object>.<sequence in hex>, and a number where one event of the log says several things about
// one object.
func eventName(about string, seq events.Sequence, n int) string {
	end := "." + strconv.FormatUint(uint64(seq), 16)
	if n > 0 {
		end += "." + strconv.Itoa(n)
	}
	if len(about) > maxName-len(end) {
		about = strings.TrimRight(about[:maxName-len(end)], "-.")
	}
	return about + end
}

// maxMessage is how long a message may be, in bytes, for events.k8s.io/v1 to take it.
const maxMessage = 1024

func shorten(message string) string {
	if len(message) <= maxMessage {
		return message
	}
	const more = " ..."
	cut := maxMessage - len(more)
	for cut > 0 && !utf8.RuneStart(message[cut]) {
		cut--
	}
	return message[:cut] + more
}

// itself refers to the object that the event of the log is about, as it became.
func (s scene) itself(kind string) corev1.ObjectReference {
	k, version := s.Subject.Key, "v1"
	if k.Group != "" {
		version = k.Group + "/v1"
	}
	return corev1.ObjectReference{APIVersion: version, Kind: kind, Namespace: k.Namespace, Name: k.Name,
		UID: types.UID(s.UID), ResourceVersion: s.Sequence.String()}
}

// owner refers to the object's controller; false where it has none.
func (s scene) owner() (corev1.ObjectReference, bool) {
	for _, o := range s.object.Metadata.OwnerReferences {
		if o.Controller != nil && *o.Controller {
			return corev1.ObjectReference{APIVersion: o.APIVersion, Kind: o.Kind, Namespace: s.Subject.Key.Namespace, Name: o.Name, UID: o.UID}, true
		}
	}
	return corev1.ObjectReference{}, false
}

// normal and warning make remarks.
func (v voice) normal(about corev1.ObjectReference, reason, format string, args ...any) remark {
	return remark{by: v, about: about, kind: corev1.EventTypeNormal, reason: reason, message: fmt.Sprintf(format, args...)}
}

func (v voice) warning(about corev1.ObjectReference, reason, format string, args ...any) remark {
	r := v.normal(about, reason, format, args...)
	r.kind = corev1.EventTypeWarning
	return r
}
