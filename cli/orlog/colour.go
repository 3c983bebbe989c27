package main

import (
	"io"
	"os"
	"strings"

	"k8s.io/cli-runtime/pkg/printers"

	"github.com/orlog-io/orlog/events"
)

// palette colours text for a terminal, or (false) leaves it as it is.
type palette bool

// useColour decides whether to colour: "always", "never", or "auto": on a terminal that can, unless NO_COLOR is
// set (no-color.org).
func useColour(when string, w io.Writer) bool {
	switch when {
	case "always":
		return true
	case "never":
		return false
	}
	return os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" && printers.IsTerminal(w)
}

func same(s string) string { return s }

func (p palette) paint(code, s string) string {
	if !p || s == "" {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

func (p palette) dim(s string) string    { return p.paint("2", s) }
func (p palette) red(s string) string    { return p.paint("31", s) }
func (p palette) green(s string) string  { return p.paint("32", s) }
func (p palette) yellow(s string) string { return p.paint("33", s) }

// verb colours what happened: ends and troubles red, what is wanted green, reports plain.
func (p palette) verb(e events.Event) func(string) string {
	switch v := string(e.Verb()); {
	case troubles[v] || e.IsDeletion() || strings.HasSuffix(v, "termination-requested") || strings.HasSuffix(v, "deletion-requested"):
		return p.red
	case e.Subject.Class == events.Desired:
		return p.green
	}
	return same
}

// actor colours people, who are few among controllers.
func (p palette) actor(e events.Event) func(string) string {
	if strings.HasPrefix(e.Actor, "system:") {
		return same
	}
	return func(s string) string { return p.paint("1;33", s) }
}
