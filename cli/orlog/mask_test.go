package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/orlog-io/orlog/cli/orlog/change"
	"github.com/orlog-io/orlog/events"
)

const applied = annotationsPath + "/kubectl.kubernetes.io~1last-applied-configuration"

func TestMaskedEntries(t *testing.T) {
	secret := json.RawMessage(`"hidden"`)
	var changes []change.Change
	for _, path := range []string{"", "/data", "/data/a", "/stringData/a", annotationsPath, applied, "/metadata"} {
		changes = append(changes, change.Change{Path: path, From: secret, To: secret})
	}
	changes = append(changes, change.Change{Path: "/metadata/labels/a", From: json.RawMessage(`"shown"`)}, change.Change{Path: "/type", To: json.RawMessage(`"shown"`)}, change.Change{Path: "/database", To: json.RawMessage(`"shown"`)})
	b, err := json.Marshal(masked([]entry{{Subject: "core/secrets/shop/db", Changes: changes}}))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(b), "hidden") || strings.Count(string(b), "shown") != 3 || strings.Count(string(b), maskedValue) != 14 {
		t.Errorf("masked: %s", b)
	}
	if changes[0].From[1] != 'h' {
		t.Error("masking changed what it was given")
	}
	if b, err = json.Marshal(masked([]entry{{Subject: "core/configmaps/shop/db", Changes: changes}})); err != nil || strings.Contains(string(b), maskedValue) {
		t.Errorf("a ConfigMap was masked: %s, %v", b, err)
	}
}

func TestMaskedLine(t *testing.T) {
	line := []byte(`{"id":"1","data":{"object":{"data":{"a":"hidden"},"stringData":{"a":"hidden"},"metadata":{"name":"db","annotations":{"kubectl.kubernetes.io/last-applied-configuration":"hidden"}}},
		"changes":[{"op":"test","path":"/data/a","value":"hidden"},{"op":"replace","path":"/data/a","value":"hidden"},{"op":"remove","path":"/type"},{"op":"add","path":"` + applied + `","value":"hidden"}]}}`)
	e := events.Event{Subject: events.Subject{Key: events.Key{Resource: "secrets", Namespace: "shop", Name: "db"}}}
	got, err := maskedLine(e, line)
	if err != nil || strings.Contains(string(got), "hidden") || !strings.Contains(string(got), `"name":"db"`) || !json.Valid(got) {
		t.Errorf("masked: %s, %v", got, err)
	}
	e.Subject.Key.Resource = "configmaps"
	if got, err := maskedLine(e, line); err != nil || string(got) != string(line) {
		t.Errorf("a ConfigMap: %s, %v", got, err)
	}
}
