package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/orlog-io/orlog/cli/orlog/change"
	"github.com/orlog-io/orlog/events"
)

// eventPrinter prints events in aligned lines. A column is as wide as its widest entry so far, within bounds:
// what comes later cannot be known.
type eventPrinter struct {
	w      io.Writer
	wide   bool
	colour palette
	widths [6]int
}

// Bounds of the columns: sequence, cause, time, what, object, who.
var (
	narrowest = [6]int{6, 8, 12, 20, 40, 14}
	widest    = [6]int{12, 14, 30, 32, 64, 32}
)

func newEventPrinter(w io.Writer, wide, coloured bool) *eventPrinter {
	return &eventPrinter{w: w, wide: wide, colour: palette(coloured), widths: narrowest}
}

func (p *eventPrinter) print(e events.Event) error {
	cause := ""
	if e.Cause != 0 {
		cause = "<- " + e.Cause.String()
	}
	at := e.Time.Local().Format("15:04:05.000")
	if p.wide {
		at = stamp(e.Time)
	}
	subject := entry{Actor: e.Actor, OnBehalfOf: e.OnBehalfOf}
	columns := [6]string{e.Sequence.String(), cause, at, strings.TrimPrefix(e.Type, events.TypePrefix), e.Subject.Key.String(), who(subject, p.wide)}
	paint := [6]func(string) string{p.colour.dim, p.colour.dim, p.colour.dim, p.colour.verb(e), same, p.colour.actor(e)}
	var b strings.Builder
	for i, text := range columns {
		n := utf8.RuneCountInString(text)
		p.widths[i] = max(p.widths[i], min(n, widest[i]))
		pad := strings.Repeat(" ", max(0, p.widths[i]-n))
		if i == 0 { // numbers stand right
			b.WriteString(pad + paint[i](text))
		} else {
			b.WriteString(paint[i](text) + pad)
		}
		b.WriteString("  ")
	}
	changed, err := p.changed(e)
	if err != nil {
		return err
	}
	line := b.String() + changed
	_, err = fmt.Fprintln(p.w, strings.TrimRight(line, " "))
	return err
}

// A line has room for so many fields, with values of so many characters.
const (
	fieldsInShort = 2
	valueInShort  = 40
)

// changed says in short what the event is about: a person's words, then the fields that matter.
func (p *eventPrinter) changed(e events.Event) (string, error) {
	t, err := toldOf(e)
	if err != nil {
		return "", err
	}
	var parts []string
	if q := words(e.Reason); q != "" {
		parts = append(parts, q)
	}
	if t.Verb == "bound" {
		if node := boundTo(t, "node "); node != "" {
			return strings.Join(append(parts, node), "  "), nil
		}
	}
	if t.summary != "" {
		parts = append(parts, t.summary)
	}
	var fields []string
	for _, f := range t.fields {
		if p.wide || !t.dull(f) {
			limit := valueInShort
			if p.wide {
				limit = -1
			}
			fields = append(fields, f.Text(limit))
		}
	}
	if more := len(fields) - fieldsInShort; more > 0 && !p.wide {
		fields = append(fields[:fieldsInShort], fmt.Sprintf("+%d", more))
	}
	if len(fields) > 0 {
		parts = append(parts, strings.Join(fields, ", "))
	}
	return strings.Join(parts, "  "), nil
}

// toldOf puts an event of the stream into words; the stream brings the object along.
func toldOf(e events.Event) (told, error) {
	t := told{entry: entry{Sequence: uint64(e.Sequence), Time: e.Time, Actor: e.Actor, OnBehalfOf: e.OnBehalfOf, Type: e.Type, Verb: string(e.Verb()),
		Class: string(e.Subject.Class), Subject: e.Subject.Key.String(), Reason: e.Reason}}
	patch, err := events.DecodeChanges(e.Changes)
	if err != nil {
		return t, fmt.Errorf("event %d: %w", e.Sequence, err)
	}
	t.Changes = joinTests(patch)
	object, err := change.Decode(e.Object)
	if err != nil {
		return t, fmt.Errorf("event %d: %w", e.Sequence, err)
	}
	if t.fields, err = fieldsOf(t.entry, object); err != nil {
		return t, fmt.Errorf("event %d: %w", e.Sequence, err)
	}
	switch e.Subject.Key.GroupResource() {
	case "events", "events.events.k8s.io": // told again: the count moved, the message is what counts
		t.summary, t.fields = summary(e.Subject.Key, object), nil
	default:
		if t.creation() {
			t.summary = summary(e.Subject.Key, object)
		}
	}
	return t, nil
}

// joinTests joins each test operation of a patch, which holds the old value, with the operation it guards.
func joinTests(patch []events.Change) []change.Change {
	var out []change.Change
	for i, op := range patch {
		if op.Op == "test" {
			continue
		}
		c := change.Change{Path: op.Path, To: op.Value}
		if i > 0 && patch[i-1].Op == "test" && patch[i-1].Path == op.Path {
			c.From = patch[i-1].Value
		}
		if op.Op == "remove" {
			c.To = nil
		}
		out = append(out, c)
	}
	return slices.Clip(out)
}
