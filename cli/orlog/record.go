package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/orlog-io/orlog/cli/orlog/change"
)

// schedulerRecord is what the scheduler says with each binding, and with each pod that finds no node.
type schedulerRecord struct {
	View     uint64            `json:"view"`
	Assumed  int               `json:"assumed"`
	Node     string            `json:"node"`
	Nodes    int               `json:"nodes"`
	Feasible int               `json:"feasible"`
	Filtered map[string]int    `json:"filtered"`
	Refused  map[string]string `json:"refused"`
	Scores   []struct {
		Node  string           `json:"node"`
		Total int64            `json:"total"`
		By    map[string]int64 `json:"by"`
	} `json:"scores"`
	Message string `json:"message"`
}

// record puts a decision record into words, a line each; nothing for a person's words.
func record(reason string, wide bool) []string {
	if !strings.HasPrefix(reason, "{") {
		return nil
	}
	var fields map[string]json.RawMessage
	if json.Unmarshal([]byte(reason), &fields) != nil {
		return []string{"reason: " + change.Value(reason, 0)}
	}
	var r schedulerRecord
	if _, scheduling := fields["feasible"]; scheduling && json.Unmarshal([]byte(reason), &r) == nil {
		return r.lines(wide)
	}
	var out []string
	var verbs []string
	if json.Unmarshal(fields["changes"], &verbs) == nil && len(verbs) > 0 {
		out = append(out, "reported at once: "+strings.Join(verbs, ", "))
		delete(fields, "changes")
	}
	for _, k := range slices.Sorted(maps.Keys(fields)) {
		v := string(fields[k])
		var s string
		if json.Unmarshal(fields[k], &s) == nil {
			v = change.Value(s, 0)
		}
		out = append(out, change.Value(k, 0)+": "+v)
	}
	return out
}

func (r schedulerRecord) lines(wide bool) []string {
	var out []string
	if r.Node == "" {
		if message := r.Message; message != "" {
			out = append(out, "no node: "+change.Value(message, 0))
		} else {
			out = append(out, fmt.Sprintf("no node: none of %d feasible", r.Nodes))
		}
	} else {
		parts := []string{"chosen: node " + change.Value(r.Node, 0), fmt.Sprintf("%d of %d nodes feasible", r.Feasible, r.Nodes)}
		if s := r.scores(wide); s != "" {
			parts = append(parts, "scores "+s)
		}
		out = append(out, strings.Join(parts, "; "))
	}
	if len(r.Filtered) > 0 {
		out = append(out, "filtered: "+r.filtered())
	}
	if wide {
		for _, node := range slices.Sorted(maps.Keys(r.Refused)) {
			out = append(out, fmt.Sprintf("not %s: %s", change.Value(node, 0), change.Value(r.Refused[node], 0)))
		}
		decided := fmt.Sprintf("decided on the cluster as of sequence %d", r.View)
		if r.Assumed > 0 {
			decided += fmt.Sprintf(" and %s placed just before", count(r.Assumed, "pod"))
		}
		out = append(out, decided)
	}
	return out
}

// scores are the best nodes with what they scored, where there was a choice.
func (r schedulerRecord) scores(wide bool) string {
	if len(r.Scores) < 2 && !wide {
		return ""
	}
	var out []string
	for _, s := range r.Scores {
		text := fmt.Sprintf("%s %d", change.Value(s.Node, 0), s.Total)
		if wide && len(s.By) > 0 {
			var by []string
			for _, scorer := range slices.Sorted(maps.Keys(s.By)) {
				by = append(by, fmt.Sprintf("%s %d", scorer, s.By[scorer]))
			}
			text += " (" + strings.Join(by, ", ") + ")"
		}
		out = append(out, text)
	}
	return strings.Join(out, ", ")
}

// filtered counts why nodes were refused: by reason where the record names every node, else by filter.
func (r schedulerRecord) filtered() string {
	total := 0
	for _, n := range r.Filtered {
		total += n
	}
	counts, format := map[string]int{}, "%d %s"
	if total == len(r.Refused) {
		for _, reason := range r.Refused {
			counts[reason]++
		}
	} else {
		counts, format = r.Filtered, "%d by %s"
	}
	var out []string
	for _, what := range slices.Sorted(maps.Keys(counts)) {
		out = append(out, fmt.Sprintf(format, counts[what], change.Value(what, 0)))
	}
	return strings.Join(out, ", ")
}
