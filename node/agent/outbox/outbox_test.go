package outbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/events/memlog"
)

var pod = events.Key{Resource: "pods", Namespace: "default", Name: "web"}

// desk is an outbox on a log in memory, with the fold of all that the log holds.
type desk struct {
	*testing.T
	log *memlog.Log
	dir string
	box *Outbox
	end func()
}

func open(t *testing.T) *desk {
	d := &desk{T: t, log: memlog.New(), dir: t.TempDir()}
	t.Cleanup(func() { d.log.Close() })
	d.want("u1")
	d.start()
	t.Cleanup(func() { d.end() })
	return d
}

func (d *desk) start() {
	d.Helper()
	var err error
	d.box, err = Open(Options{Dir: d.dir, Log: d.log, State: func(k events.Key) (events.State, error) { return d.state(k), nil }, Node: "n1", Source: "agent/n1", Actor: "system:node:n1",
		Logger: slog.New(slog.DiscardHandler),
		Merge: func(_ events.Key, status, current json.RawMessage) (json.RawMessage, error) {
			var s, c map[string]any
			if err := errors.Join(json.Unmarshal(status, &s), json.Unmarshal(current, &c)); err != nil {
				return nil, err
			}
			if v, has := c["theirs"]; has {
				s["theirs"] = v
			}
			return json.Marshal(s)
		}})
	if err != nil {
		d.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- d.box.Run(ctx) }()
	d.end = sync.OnceFunc(func() {
		cancel()
		if err := errors.Join(<-done, d.box.Close()); err != nil {
			d.Error(err)
		}
	})
}

// all returns the events on the log.
func (d *desk) all() []events.Event {
	d.Helper()
	ctx := context.Background()
	last, err := d.log.Last(ctx)
	if err != nil {
		d.Fatal(err)
	}
	var out []events.Event
	for seq := events.Sequence(1); seq <= last; seq++ {
		e, err := d.log.Get(ctx, seq)
		if err != nil {
			d.Fatal(err)
		}
		out = append(out, e)
	}
	return out
}

func (d *desk) state(k events.Key) (s events.State) {
	for _, e := range d.all() {
		if e.Subject.Key == k {
			s, _ = events.Fold(s, e)
		}
	}
	return s
}

func (d *desk) want(uid string) {
	d.Helper()
	_, err := d.log.Append(context.Background(), events.Entry{Event: events.Event{Subject: events.Subject{Class: events.Desired, Key: pod, Node: "n1"}, Type: "io.orlog.pod.bound",
		Source: "test", Actor: "test", Time: time.Now(), UID: uid, Object: json.RawMessage(`{"metadata":{"name":"web","uid":"` + uid + `"}}`)}})
	if err != nil {
		d.Fatal(err)
	}
}

func (d *desk) put(verb string, kept bool, hold time.Duration) {
	d.Helper()
	if err := d.box.Put(Report{Key: pod, UID: "u1", Type: "io.orlog.pod." + verb, Kept: kept, Hold: hold, Time: time.Now(), Cause: 1, Correlation: 1,
		Status: json.RawMessage(fmt.Sprintf(`{"is":%q}`, verb))}); err != nil {
		d.Fatal(err)
	}
}

// story is the verbs on the log, once it has come to rest.
func (d *desk) story() string {
	d.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for d.box.Stats().Pending > 0 {
		if time.Now().After(deadline) {
			d.Fatalf("the outbox is not empty: %+v", d.box.Stats())
		}
		time.Sleep(time.Millisecond)
	}
	var verbs []string
	for _, e := range d.all() {
		if e.Subject.Class == events.Observed {
			verbs = append(verbs, string(e.Verb()))
		}
	}
	return strings.Join(verbs, " ")
}

func TestReportsArriveInOrderWithTheirChanges(t *testing.T) {
	d := open(t)
	d.put("started", true, 0)
	d.story()
	d.put("exited", true, 0)
	if got := d.story(); got != "started exited" {
		t.Errorf("story %q", got)
	}
	list := d.all()
	e := list[len(list)-1]
	if want := `[{"op":"test","path":"/status/is","value":"started"},{"op":"replace","path":"/status/is","value":"exited"}]`; string(e.Changes) != want {
		t.Errorf("changes %s", e.Changes)
	}
	if e.Cause != 1 || e.Subject.Node != "n1" || string(e.Object) != `{"metadata":{"name":"web","namespace":"default","uid":"u1"},"status":{"is":"exited"}}` {
		t.Errorf("event %+v %s", e, e.Object)
	}
}

func TestWhatMayGiveWayDoes(t *testing.T) {
	d := open(t)
	d.put("one", false, time.Hour)
	d.put("two", false, time.Hour)
	d.put("started", true, 0)
	d.put("three", false, time.Hour)
	d.put("ready", false, 0)
	if got := d.story(); got != "started ready" {
		t.Errorf("story %q", got)
	}
}

func TestNothingIsLostOrDoubledWhileTheLogFails(t *testing.T) {
	d := open(t)
	gone := errors.New("no route to the log")
	d.log.FailNext(memlog.Fault{Before: gone}, memlog.Fault{After: gone}, memlog.Fault{Before: gone})
	d.put("started", true, 0)
	d.put("exited", true, 0)
	d.put("restarted", true, 0)
	if got := d.story(); got != "started exited restarted" {
		t.Errorf("story %q", got)
	}
}

func TestRestartSendsTheRestOnce(t *testing.T) {
	d := open(t)
	gone := errors.New("no route to the log")
	// What is appended is kept by the log, but the writer never hears of it.
	d.log.Inject(func([]events.Entry) memlog.Fault { return memlog.Fault{After: gone} })
	d.put("started", true, 0)
	d.put("passing", false, 0)
	d.put("exited", true, 0)
	for len(d.all()) < 2 {
		time.Sleep(time.Millisecond)
	}
	d.end()
	d.log.Inject(nil)
	journal := filepath.Join(d.dir, "journal")
	f, err := os.OpenFile(journal, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(`{"put":{"id":"torn`); err != nil { // power failed within a write
		t.Fatal(err)
	}
	f.Close()
	d.start()
	if got := d.story(); got != "started exited" {
		t.Errorf("story %q", got)
	}
}

func TestAnotherWritersPartIsKept(t *testing.T) {
	d := open(t)
	d.put("started", true, 0)
	d.story()
	if _, err := d.log.Append(context.Background(), events.Entry{Event: events.Event{Subject: events.Subject{Class: events.Observed, Key: pod}, Type: "io.orlog.pod.status-reported",
		Source: "test", Actor: "test", Time: time.Now(), UID: "u1", Object: json.RawMessage(`{"status":{"is":"lost","theirs":1}}`)}}); err != nil {
		t.Fatal(err)
	}
	d.put("ready", true, 0)
	d.story()
	if got := string(d.state(pod).Object); !strings.Contains(got, `"is":"ready","theirs":1`) {
		t.Errorf("object %s", got)
	}
}

func TestOfAReplacedObjectOnlyFactsAreTold(t *testing.T) {
	d := open(t)
	d.put("started", true, 0)
	d.story()
	d.want("u2")
	d.put("ready", false, 0)
	d.put("exited", true, 0)
	if got := d.story(); got != "started exited" {
		t.Errorf("story %q", got)
	}
	if s := d.state(pod); s.UID != "u2" || strings.Contains(string(s.Object), "exited") {
		t.Errorf("the old object's report became the new one's status: %s", s.Object)
	}
}

func TestJournalStaysSmall(t *testing.T) {
	d := open(t)
	d.box.journal.size = rewriteAt + 1
	d.put("started", true, 0)
	d.story()
	deadline := time.Now().Add(5 * time.Second)
	for {
		info, err := os.Stat(filepath.Join(d.dir, "journal"))
		if err != nil {
			t.Fatal(err)
		}
		if info.Size() == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the journal of an empty outbox has %d bytes", info.Size())
		}
		time.Sleep(time.Millisecond)
	}
}
