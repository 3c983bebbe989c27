package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/orlog-io/orlog/events"
)

// happened makes the stream's line for an event.
func happened(t *testing.T, e events.Event) string {
	t.Helper()
	e.ID, e.Source, e.UID = e.Sequence.String(), "gateway", "u"
	e.Time = testNow.Add(time.Duration(e.Sequence) * time.Second)
	if e.Object == nil {
		e.Object = json.RawMessage(`{}`)
	}
	if e.Subject.Class == "" {
		e.Subject.Class = events.Desired
	}
	b, err := events.Structured(e)
	if err != nil {
		t.Fatal(err)
	}
	return string(b) + "\n"
}

func deployments(name string) events.Subject {
	return events.Subject{Class: events.Desired, Key: events.Key{Group: "apps", Resource: "deployments", Namespace: "default", Name: name}}
}

func pods(name, node string) events.Subject {
	return events.Subject{Class: events.Desired, Key: events.Key{Resource: "pods", Namespace: "shop", Name: name}, Node: node}
}

// story is what happened in the tests' cluster.
func story(t *testing.T) []string {
	return []string{
		happened(t, events.Event{Sequence: 1, Actor: "admin", Type: "io.orlog.deployment.created", Subject: deployments("web"),
			Object: json.RawMessage(`{"spec":{"replicas":3,"template":{"spec":{"containers":[{"name":"web","image":"web:1.0"}]}}}}`)}),
		happened(t, events.Event{Sequence: 2, Actor: "alice", Type: "io.orlog.deployment.scaled", Subject: deployments("web"), Reason: "more visitors",
			Changes: json.RawMessage(`[{"op":"test","path":"/spec/replicas","value":3},{"op":"replace","path":"/spec/replicas","value":5}]`)}),
		happened(t, events.Event{Sequence: 3, Actor: "system:kube-scheduler", Type: "io.orlog.pod.bound", Subject: pods("web-1", "vm"), Cause: 2,
			Reason: `{"view":2,"node":"vm","nodes":1,"feasible":1}`, Changes: json.RawMessage(`[{"op":"add","path":"/spec/nodeName","value":"vm"}]`)}),
		happened(t, events.Event{Sequence: 4, Actor: "system:node:vm", Type: "io.orlog.pod.exited", Cause: 3,
			Subject: events.Subject{Class: events.Observed, Key: pods("web-1", "").Key, Node: "vm"},
			Object:  json.RawMessage(`{"status":{"containerStatuses":[{"name":"web","restartCount":1,"state":{"terminated":{"exitCode":1,"reason":"Error"}}}]}}`),
			Changes: json.RawMessage(`[{"op":"test","path":"/status/containerStatuses/0/state","value":{"running":{}}},{"op":"replace","path":"/status/containerStatuses/0/state","value":{"terminated":{"exitCode":1,"reason":"Error"}}}]`)}),
		happened(t, events.Event{Sequence: 5, Actor: "system:node:vm", Type: "io.orlog.event.updated", Subject: events.Subject{Class: events.Desired, Key: events.Key{Resource: "events", Namespace: "shop", Name: "web-1.1"}},
			Object: json.RawMessage(`{"reason":"BackOff","message":"Back-off restarting failed container","count":3}`), Changes: json.RawMessage(`[{"op":"replace","path":"/count","value":3}]`)}),
		happened(t, events.Event{Sequence: 6, Actor: "admin", Type: "io.orlog.pod.deleted", Subject: pods("web-1", "vm")}),
	}
}

// serveStory answers as the gateway does: from a sequence on; what it filtered by is told.
func serveStory(t *testing.T, asked *string) *recording {
	lines := story(t)
	return &recording{last: uint64(len(lines)), stream: func(w http.ResponseWriter, r *http.Request) {
		if asked != nil {
			*asked = r.URL.RawQuery
		}
		for i := int(number(r, "from", 1)); i <= min(len(lines), int(number(r, "to", 100))); i++ {
			fmt.Fprint(w, lines[i-1])
		}
	}}
}

func TestTail(t *testing.T) {
	time.Local = time.UTC
	var asked string
	kubeconfig := serve(t, serveStory(t, &asked))
	all := `     1            10:30:01.000  deployment.created    apps/deployments/default/web              admin           3 replicas, web=web:1.0
     2            10:30:02.000  deployment.scaled     apps/deployments/default/web              alice           "more visitors"  spec.replicas: 3 -> 5
     3  <- 2      10:30:03.000  pod.bound             core/pods/shop/web-1                      scheduler       node vm
     4  <- 3      10:30:04.000  pod.exited            core/pods/shop/web-1                      node vm         status.containerStatuses[web].state: running -> terminated (Error, exit code 1)
     5            10:30:05.000  event.updated         core/events/shop/web-1.1                  node vm         BackOff: Back-off restarting failed container (3 times)
     6            10:30:06.000  pod.deleted           core/pods/shop/web-1                      admin
`
	lines := strings.SplitAfter(all, "\n")
	for _, c := range []struct{ args, want, asked string }{
		{"", all, "follow=false&from=1"},
		{"--from 5", lines[4] + lines[5], "follow=false&from=5"},
		{"--since 5", lines[4] + lines[5], "follow=false&from=5"},
		{"--until 2", lines[0] + lines[1], "follow=false&from=1&to=2"},
		{"--kind deploy --actor alice", lines[1], "follow=false&from=1&group=apps&resource=deployments"},
		{"--kind pod -n shop --name web-1", lines[2] + lines[3] + lines[5], "follow=false&from=1&group=&name=web-1&namespace=shop&resource=pods"},
		{"--kind pod,deployments.apps --verb deleted,created", lines[0] + lines[5], "follow=false&from=1"},
		{"-n shop --class observed", lines[3], "class=observed&follow=false&from=1"},
		{"--node vm --name w*1", lines[2] + lines[3] + lines[5], "follow=false&from=1"},
		{"--actor system:* --verb bound", lines[2], "follow=false&from=1"},
		{"--actor !system:*", lines[0] + lines[1] + lines[5], "follow=false&from=1"},
		{"--name nothing", "", "follow=false&from=1"},
	} {
		got, code := orlog(t, kubeconfig, append([]string{"tail", "--follow=false"}, strings.Fields(c.args)...)...)
		if got != c.want || code != 0 {
			t.Errorf("tail %s: %d\n%s\nwant\n%s", c.args, code, got, c.want)
		}
		if asked != c.asked {
			t.Errorf("tail %s asks %s, want %s", c.args, asked, c.asked)
		}
	}
	if got, _ := orlog(t, kubeconfig, "tail", "--follow=false", "-o", "json"); got != strings.Join(story(t), "") {
		t.Errorf("json is not what the gateway sent:\n%s", got)
	}
	got, _ := orlog(t, kubeconfig, "tail", "--from", "3", "--until", "3", "-o", "wide", "--color", "always")
	want := "     3  <- 2      2026-11-21T10:30:03.000Z  pod.bound             core/pods/shop/web-1                      system:kube-scheduler  node vm\n"
	if plain := withoutColour(got); plain != want || plain == got {
		t.Errorf("wide:\n%q\nwant\n%q, coloured", got, want)
	}
	for args, want := range map[string]string{"--at 3": "--since 3", "-o xml": "tail prints", "--class x": "desired or observed", "--color x": "auto, always or never",
		"--from 1 --since 1m": "one of them", "--kind gadgets": "api-resources", "--name [": "--name", "--from 5 --until 2": "nothing to show"} {
		if got, code := orlog(t, kubeconfig, append([]string{"tail"}, strings.Fields(args)...)...); code == 0 || !strings.Contains(got, want) {
			t.Errorf("tail %s: %d %q, want %q", args, code, got, want)
		}
	}
}

func withoutColour(s string) string {
	for _, code := range []string{"0", "2", "31", "32", "1;33"} {
		s = strings.ReplaceAll(s, "\x1b["+code+"m", "")
	}
	return s
}

// breaking serves the story in pieces: after every event the connection ends, in another way each time.
type breaking struct {
	lines []string
	calls atomic.Int64
	last  atomic.Int64
}

func (b *breaking) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	call := b.calls.Add(1)
	if strings.HasSuffix(r.URL.Path, "/position") {
		write(w, position{Last: uint64(b.last.Load())})
		return
	}
	switch call % 5 {
	case 2:
		refuse(w, http.StatusServiceUnavailable, "the log cannot be reached")
		return
	case 4:
		refuse(w, http.StatusForbidden, "not yet")
		return
	}
	from := int(number(r, "from", 1))
	if from > len(b.lines) {
		refuse(w, http.StatusBadRequest, "the story is over") // which ends the test: it is of no use to try again
		return
	}
	fmt.Fprint(w, b.lines[from-1])
	if err := http.NewResponseController(w).Flush(); err != nil {
		panic(err)
	}
	if from%2 == 0 {
		panic(http.ErrAbortHandler)
	}
}

func follow(t *testing.T, h http.Handler, from events.Sequence) (seen []events.Sequence, notes string, err error) {
	t.Helper()
	s := httptest.NewServer(h)
	defer s.Close()
	var note strings.Builder
	f := &follower{api: clientFor(t, s.URL), query: map[string][]string{}, next: from, follow: true, pause: time.Microsecond, note: &note}
	err = f.run(t.Context(), func(line []byte) (events.Sequence, error) {
		e, err := events.ParseStructured(line)
		seen = append(seen, e.Sequence)
		return e.Sequence, err
	})
	return seen, note.String(), err
}

func TestTailGoesOnAfterABreak(t *testing.T) {
	b := &breaking{lines: story(t)}
	b.last.Store(6)
	seen, notes, err := follow(t, b, 1)
	if fmt.Sprint(seen) != "[1 2 3 4 5 6]" {
		t.Errorf("saw %v, want every event once", seen)
	}
	if err == nil || !strings.Contains(err.Error(), "the story is over") {
		t.Errorf("ended with %v", err)
	}
	if !strings.Contains(notes, "broke off") || !strings.Contains(notes, "going on at sequence 4") {
		t.Errorf("notes: %s", notes)
	}
}

func TestTailGoesOnWhereNothingHadComeYet(t *testing.T) {
	lines, calls := story(t), 0
	seen, _, err := follow(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/position") {
			write(w, position{Last: 6})
			return
		}
		switch calls++; calls {
		case 1: // it answers, and dies before there is an event
			if err := http.NewResponseController(w).Flush(); err != nil {
				panic(err)
			}
			panic(http.ErrAbortHandler)
		case 2:
			fmt.Fprint(w, lines[5])
		default:
			refuse(w, http.StatusBadRequest, "the story is over")
		}
	}), 6)
	if fmt.Sprint(seen) != "[6]" || err == nil || !strings.Contains(err.Error(), "over") {
		t.Errorf("%v %v", seen, err)
	}
}

func TestTailEndsWhereALineCannotBeRead(t *testing.T) {
	_, notes, err := follow(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, "no json") }), 1)
	if err == nil || notes != "" {
		t.Errorf("%v %s", err, notes)
	}
}

func TestTailRefusesAnotherLog(t *testing.T) {
	b := &breaking{lines: story(t)}
	b.last.Store(2)
	_, _, err := follow(t, b, 3)
	if err == nil || !strings.Contains(err.Error(), "another cluster") {
		t.Errorf("a shorter log: %v", err)
	}
}

func TestTailDoesNotRetryWhatNeverWorked(t *testing.T) {
	_, notes, err := follow(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { refuse(w, http.StatusForbidden, "you may not") }), 1)
	if err == nil || !strings.Contains(err.Error(), "you may not") || notes != "" {
		t.Errorf("%v %s", err, notes)
	}
}
