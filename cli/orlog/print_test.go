package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

var printNow = time.Date(2026, 11, 21, 10, 30, 0, 0, time.UTC)

func scaledEntry() entry {
	return entry{Sequence: 42, Time: printNow.Add(-12 * time.Minute), Actor: "alice", Type: "io.orlog.deployment.scaled", Verb: "scaled",
		Subject: "apps/deployments/default/web", Reason: "more visitors",
		Changes: []change{{Path: "/spec/replicas", From: json.RawMessage("3"), To: json.RawMessage("5")},
			{Path: "/metadata/annotations/kubectl.kubernetes.io~1last-applied-configuration", To: json.RawMessage(`"{}"`)}}}
}

func TestPrintHistory(t *testing.T) {
	var b strings.Builder
	if err := printHistory(&b, []entry{scaledEntry(), {Sequence: 43, Class: "observed", Verb: "status-changed"}}, false, printNow); err != nil {
		t.Fatal(err)
	}
	want := `SEQUENCE   AGE   WHO     WHAT     CHANGED
42         12m   alice   scaled   "more visitors"
                                  spec.replicas: 3 -> 5
`
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}

func TestPrintChain(t *testing.T) {
	bound := entry{Sequence: 50, Time: printNow.Add(-time.Minute), Actor: "system:kube-scheduler", Verb: "bound", Subject: "core/pods/default/web-1",
		Reason: `{"node":"n1","score":42}`, Cause: 42}
	var b strings.Builder
	if err := printChain(&b, []entry{bound, scaledEntry()}, printNow); err != nil {
		t.Fatal(err)
	}
	want := `core/pods/default/web-1 bound
  by system:kube-scheduler, 60s ago, sequence 50
  node: "n1"
  score: 42
  because apps/deployments/default/web scaled
    by alice, 12m ago, sequence 42
    spec.replicas: 3 -> 5
    reason: "more visitors"
`
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}

func TestPrintEvents(t *testing.T) {
	in := `{"sequence":"7","type":"io.orlog.pod.bound","subject":"core/pods/default/web-1","time":"2026-11-21T10:30:00Z","actor":"system:kube-scheduler","cause":"6","specversion":"1.0"}` + "\n"
	var b strings.Builder
	if err := printEvents(&b, strings.NewReader(in), true); err != nil || b.String() != in {
		t.Errorf("json: got %q, %v", b.String(), err)
	}
	b.Reset()
	if err := printEvents(&b, strings.NewReader(in), false); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"7 <- 6", "pod.bound", "core/pods/default/web-1", "system:kube-scheduler"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in %q", want, b.String())
		}
	}
	if err := printEvents(&b, strings.NewReader("no json\n"), false); err == nil {
		t.Error("a line that is no event was accepted")
	}
}
