package main

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/orlog-io/orlog/cli/orlog/change"
	"github.com/orlog-io/orlog/events"
)

// What a Secret's values lie under. The annotation is a copy of them that kubectl apply keeps.
const (
	maskedValue     = "***"
	appliedCopy     = "kubectl.kubernetes.io/last-applied-configuration"
	annotationsPath = "/metadata/annotations"
)

// addShowSecrets declares the flag that diff has too.
func addShowSecrets(c *cobra.Command, to *bool) {
	c.Flags().BoolVar(to, "show-secrets", false, "Show the values of Secrets in json and yaml, where you may read them")
}

// masked are entries with the values of Secrets hidden.
func masked(entries []entry) []entry {
	out := make([]entry, 0, len(entries))
	for _, e := range entries {
		if e.secret() {
			changes := make([]change.Change, len(e.Changes))
			for i, c := range e.Changes {
				changes[i] = change.Change{Path: c.Path, From: maskedIf(c.Path, c.From), To: maskedIf(c.Path, c.To)}
			}
			e.Changes = changes
		}
		out = append(out, e)
	}
	return out
}

// holdsValues reports whether what stands at a path (a JSON pointer) of a Secret is, or holds, its values.
func holdsValues(path string) bool {
	for _, p := range []string{"/data", "/stringData", annotationsPath + "/" + strings.ReplaceAll(appliedCopy, "/", "~1")} {
		if path == p || strings.HasPrefix(path, p+"/") || strings.HasPrefix(p, path+"/") || path == "" {
			return true
		}
	}
	return false
}

func maskedIf(path string, value json.RawMessage) json.RawMessage {
	if value == nil || !holdsValues(path) {
		return value
	}
	return json.RawMessage(`"` + maskedValue + `"`)
}

// maskedLine is a line of the event stream with the values hidden where it is about a Secret.
func maskedLine(e events.Event, line []byte) ([]byte, error) {
	if e.Subject.Key.Group != "" || e.Subject.Key.Resource != "secrets" {
		return line, nil
	}
	var event map[string]any
	if err := json.Unmarshal(line, &event); err != nil {
		return nil, fmt.Errorf("event %d: %w", e.Sequence, err)
	}
	data, _ := event["data"].(map[string]any)
	if object, ok := data["object"].(map[string]any); ok {
		maskSecrets(object, nil)
	}
	changes, _ := data["changes"].([]any)
	for _, c := range changes {
		op, _ := c.(map[string]any)
		if path, _ := op["path"].(string); op["value"] != nil && holdsValues(path) {
			op["value"] = maskedValue
		}
	}
	return json.Marshal(event)
}
