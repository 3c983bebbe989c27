package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/orlog-io/orlog/cli/orlog/change"
	"github.com/orlog-io/orlog/events"
)

type printOptions struct {
	all, wide bool
	now       time.Time
}

// print writes the answer in a sentence, then the chain as a tree: each event's cause below it.
func (x explanation) print(w io.Writer, o printOptions) error {
	if len(x.chain) == 0 {
		return nil
	}
	if _, err := fmt.Fprintf(w, "%s\n\n", x.sentence()); err != nil {
		return err
	}
	if err := x.tree(w, x.chain, o); err != nil || len(x.later) == 0 {
		return err
	}
	if _, err := fmt.Fprint(w, "\nSince then:\n\n"); err != nil {
		return err
	}
	return x.tree(w, x.later, o)
}

// sentence is the answer: what is, because of what.
func (x explanation) sentence() string {
	root := x.chain[len(x.chain)-1]
	name := func(e told) string { return x.name(e.key(), e.kind()) }
	if x.event != 0 {
		if len(x.chain) == 1 {
			return fmt.Sprintf("event %d: %s. Nothing before it led to that.", x.event, x.deed(root, name))
		}
		return fmt.Sprintf("event %d: %s, because %s", x.event, x.deed(x.chain[0], name), x.deed(root, name))
	}
	kind := ""
	for _, e := range x.chain {
		if e.key() == x.key {
			kind = e.kind()
		}
	}
	it := func(e told) string {
		if e.key() == x.key {
			return "it"
		}
		return name(e)
	}
	text := fmt.Sprintf("%s %s because ", x.name(x.key, kind), x.state.text)
	if trouble, found := x.trouble(); found {
		text += x.deed(trouble, it)
		if trouble.Sequence != root.Sequence {
			text += "; the chain began when " + x.deed(root, it)
		}
	} else {
		text += x.deed(root, it)
	}
	if len(x.later) > 0 {
		text += "; since then " + x.deed(x.later[len(x.later)-1], it)
	}
	return text
}

// troubles are verbs of what goes wrong: they, not who wanted the object, are why it is not well.
var troubles = map[string]bool{"exited": true, "failed": true, "unready": true, "unreachable": true, "not-ready": true, "evicted": true,
	"unschedulable": true, "lost": true, "disrupted": true, "unavailable": true}

// trouble finds the first trouble of a chain whose object is not well.
func (x explanation) trouble() (told, bool) {
	if x.state.well || x.state.ends {
		return told{}, false
	}
	for _, e := range slices.Backward(x.chain) {
		if troubles[e.Verb] || e.observed() && e.Verb == "restarted" {
			return e, true
		}
	}
	return told{}, false
}

// name is an object as people say it: "deployment web", with its namespace where that is another.
func (x explanation) name(k events.Key, kind string) string {
	if kind == "" {
		kind = k.Resource
	}
	text := kind + " " + k.Name
	if k.Namespace != "" && k.Namespace != x.key.Namespace {
		text += " in " + k.Namespace
	}
	return text
}

// deed says who did what, and why in their words.
func (x explanation) deed(e told, name func(told) string) string {
	if e.Hidden {
		return fmt.Sprintf("of event %d, about an object that you may not read", e.Sequence)
	}
	text := who(e.entry, false) + " " + act(e, name(e))
	if q := words(e.Reason); q != "" {
		text += ": " + q
	}
	return text
}

// act is what an event did to an object of this name.
func act(e told, name string) string {
	wanted := slices.DeleteFunc(slices.Clone(e.fields), func(f change.Field) bool { return f.Bookkeeping() || f.Status() != e.observed() })
	only := ""
	if len(wanted) == 1 {
		only = " (" + wanted[0].String() + ")"
	}
	switch {
	case e.observed():
		switch e.Verb {
		case "status-changed", "status-reported":
			return "reported " + of("status", name)
		}
		return fmt.Sprintf("reported %s %s", name, strings.ReplaceAll(e.Verb, "-", " "))
	case e.Verb == "scaled" && len(wanted) == 1:
		return fmt.Sprintf("scaled %s from %s to %s", name, change.Value(wanted[0].From, 0), change.Value(wanted[0].To, 0))
	case e.Verb == "image-changed" && len(wanted) == 1:
		return fmt.Sprintf("changed %s from %s to %s", of("image", name), change.Value(wanted[0].From, 0), change.Value(wanted[0].To, 0))
	case e.Verb == "bound":
		return "bound " + name + boundTo(e, " to ")
	case strings.HasSuffix(e.Verb, "-changed"):
		return "changed " + of(strings.ReplaceAll(strings.TrimSuffix(e.Verb, "-changed"), "-", " "), name) + only
	case e.Verb == "termination-requested", e.Verb == "deletion-requested", e.Verb == "terminating":
		return "deleted " + name
	case e.Verb == "deleted":
		return "removed " + name
	case e.Verb == "updated" || e.Verb == "labelled" || e.Verb == "annotated":
		return e.Verb + " " + name + only
	}
	return strings.ReplaceAll(e.Verb, "-", " ") + " " + name
}

// of is a part of an object: "the image of deployment web", "its image".
func of(part, name string) string {
	if name == "it" {
		return "its " + part
	}
	return "the " + part + " of " + name
}

// boundTo is where a binding put its pod, behind a word.
func boundTo(e told, before string) string {
	for _, f := range e.fields {
		if f.Path() == "spec.nodeName" {
			return before + change.Value(f.To, 0)
		}
	}
	return ""
}
