package narrator

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/tools/txtar"
	"sigs.k8s.io/yaml"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/services/loop"
	"github.com/orlog-io/orlog/services/loop/looptest"
)

var updateStories = flag.Bool("update-stories", false, "write what was told into the golden files")

// entry is an event of the log as golden files write it. Where was is given, the changes from it to object
// are the event's.
type entry struct {
	Sequence    events.Sequence
	Stored      time.Time
	Subject     string
	Type, Actor string
	UID         string
	Object, Was json.RawMessage
}

func (e entry) event(t *testing.T) events.Event {
	t.Helper()
	s, err := events.ParseSubject(e.Subject)
	if err != nil {
		t.Fatal(err)
	}
	changes, err := events.Diff(e.Was, e.Object)
	if err != nil {
		t.Fatal(err)
	}
	return events.Event{Sequence: e.Sequence, Stored: e.Stored, Subject: s, Type: e.Type, Actor: e.Actor, UID: e.UID,
		Object: e.Object, Changes: events.EncodeChanges(changes)}
}

// TestStories tells the histories in testdata: each log is told from its beginning, and what is written to
// the gateway is the golden text.
func TestStories(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d golden files, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			a, err := txtar.ParseFile(file)
			if err != nil || len(a.Files) != 2 || a.Files[0].Name != "log" || a.Files[1].Name != "told" {
				t.Fatalf("%s: want the sections log and told: %v", file, err)
			}
			got := story2text(t, string(a.Files[0].Data))
			if *updateStories {
				a.Files[1].Data = []byte(got)
				if err := os.WriteFile(file, txtar.Format(a), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if got != string(a.Files[1].Data) {
				t.Errorf("told:\n%s", got)
			}
		})
	}
}

func story2text(t *testing.T, log string) string {
	m := newMemory()
	var out strings.Builder
	for doc := range strings.SplitSeq(log, "---\n") {
		var e entry
		if err := yaml.UnmarshalStrict([]byte(doc), &e); err != nil {
			t.Fatalf("%s: %v", doc, err)
		}
		told, err := Narrate(e.event(t))
		if err != nil {
			t.Fatal(err)
		}
		for _, one := range told {
			next, fresh := m.note(one.Event)
			if next == nil {
				continue
			}
			effect := eventObjects.Create(next)
			if !fresh {
				if effect, err = repeat(next); err != nil {
					t.Fatal(err)
				}
			}
			var d loop.Decision
			d.Do(effect)
			out.WriteString("as " + one.As.User + ": " + looptest.Print(d))
		}
	}
	if out.Len() == 0 {
		return "nothing\n"
	}
	return out.String()
}

func TestNamesAndMessagesStayWithinBounds(t *testing.T) {
	long := strings.Repeat("a", 246) + "-.bcdefg"
	if got := eventName(long, 0xfffff, 2); len(got) > maxName || !strings.HasSuffix(got, "a.fffff.2") {
		t.Errorf("name %q", got)
	}
	if got := eventName("web", 255, 0); got != "web.ff" {
		t.Errorf("name %q", got)
	}
	if got := shorten(strings.Repeat("ä", 600)); len(got) > maxMessage || !strings.HasSuffix(got, "ä ...") {
		t.Errorf("message of %d bytes ends in %q", len(got), got[len(got)-8:])
	}
}

// TestNothingIsToldAboutEvents: what the narrator writes must not make it write.
func TestNothingIsToldAboutEvents(t *testing.T) {
	for _, group := range []string{"", "events.k8s.io"} {
		e := events.Event{Subject: events.Subject{Key: events.Key{Group: group, Resource: "events", Namespace: "default", Name: "web.1f"}}}
		for _, e.Subject.Class = range []events.Class{events.Desired, events.Observed} {
			if slices.ContainsFunc(tales, func(t tale) bool { t.actor = ""; return t.fits(e) }) {
				t.Errorf("a tale is about %s", e.Subject)
			}
		}
	}
}
