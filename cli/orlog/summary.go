package main

import (
	"fmt"
	"strings"

	"github.com/orlog-io/orlog/cli/orlog/change"
	"github.com/orlog-io/orlog/events"
)

// summary says in a few words what an object is: what a line about its creation has room for.
func summary(key events.Key, object map[string]any) string {
	var parts []string
	add := func(format string, args ...any) { parts = append(parts, fmt.Sprintf(format, args...)) }
	switch key.GroupResource() {
	case "events", "events.events.k8s.io":
		message, _ := object["message"].(string)
		if message == "" {
			message, _ = object["note"].(string)
		}
		reason, _ := object["reason"].(string)
		text := change.Value(reason, 0) + ": " + change.Value(message, 120)
		if n := object["count"]; n != nil && change.Value(n, 0) != "1" {
			text += " (" + change.Value(n, 0) + " times)"
		}
		return text
	case "configmaps", "secrets":
		n := 0
		for _, field := range []string{"data", "binaryData"} {
			m, _ := object[field].(map[string]any)
			n += len(m)
		}
		if n == 1 {
			return "1 key"
		}
		return fmt.Sprintf("%d keys", n)
	case "services":
		spec, _ := object["spec"].(map[string]any)
		ports := names(spec["ports"], "port")
		if len(ports) > 0 {
			add("port %s", strings.Join(ports, ","))
		}
		if ip, _ := spec["clusterIP"].(string); ip != "" {
			add("at %s", ip)
		}
		return strings.Join(parts, ", ")
	}
	spec, _ := object["spec"].(map[string]any)
	if n, ok := spec["replicas"]; ok {
		if s := change.Value(n, 0); s == "1" {
			add("1 replica")
		} else {
			add("%s replicas", s)
		}
	}
	if s, ok := spec["schedule"].(string); ok {
		add("schedule %s", change.Value(s, 60))
	}
	for _, c := range containersOf(spec) {
		name, _ := c["name"].(string)
		image, _ := c["image"].(string)
		add("%s=%s", name, change.Value(image, 60))
	}
	return strings.Join(parts, ", ")
}

// containersOf finds the containers of a pod, or of a template for pods.
func containersOf(spec map[string]any) []map[string]any {
	for spec != nil {
		if list, ok := spec["containers"].([]any); ok {
			var out []map[string]any
			for _, e := range list {
				if m, ok := e.(map[string]any); ok {
					out = append(out, m)
				}
			}
			return out
		}
		inner, ok := spec["template"].(map[string]any)
		if !ok {
			inner, ok = spec["jobTemplate"].(map[string]any)
		}
		if !ok {
			return nil
		}
		spec, _ = inner["spec"].(map[string]any)
	}
	return nil
}

// names are the values of one field of a list's elements.
func names(list any, field string) []string {
	var out []string
	elements, _ := list.([]any)
	for _, e := range elements {
		if m, ok := e.(map[string]any); ok && m[field] != nil {
			out = append(out, change.Value(m[field], 0))
		}
	}
	return out
}
