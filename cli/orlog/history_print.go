package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/cli-runtime/pkg/printers"
	"sigs.k8s.io/yaml"
)

// printObject prints anything as JSON or YAML.
func printObject(w io.Writer, format string, v any) error {
	if format == "yaml" {
		b, err := yaml.Marshal(v)
		if err != nil {
			return err
		}
		_, err = w.Write(b)
		return err
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// printHistory prints a block of lines a change: the first says when, who and what, each says one field.
func printHistory(w io.Writer, entries []told, wide bool, now time.Time) error {
	if len(entries) == 0 {
		return nil
	}
	t := printers.GetNewTabWriter(w)
	if wide {
		fmt.Fprintln(t, "SEQUENCE\tAGE\tTIME\tWHO\tWHAT\tCAUSE\tCHANGED")
	} else {
		fmt.Fprintln(t, "SEQUENCE\tAGE\tWHO\tWHAT\tCHANGED")
	}
	for _, e := range entries {
		lines := e.lines(wide)
		if len(lines) == 0 {
			lines = []string{""}
		}
		if wide {
			cause := ""
			if e.Cause != 0 {
				cause = fmt.Sprint(e.Cause)
			}
			fmt.Fprintf(t, "%d\t%s\t%s\t%s\t%s\t%s\t%s\n", e.Sequence, age(e.entry, now), stamp(e.Time), who(e.entry, true), e.Verb, cause, lines[0])
		} else {
			fmt.Fprintf(t, "%d\t%s\t%s\t%s\t%s\n", e.Sequence, age(e.entry, now), who(e.entry, false), e.Verb, lines[0])
		}
		indent := strings.Repeat("\t", 4)
		if wide {
			indent = strings.Repeat("\t", 6)
		}
		for _, l := range lines[1:] {
			fmt.Fprintf(t, "%s%s\n", indent, l)
		}
	}
	return t.Flush()
}

// lines are what the event says beside who and when: a person's words, a decision in words, the fields.
func (e told) lines(wide bool) []string {
	var out []string
	if q := words(e.Reason); q != "" {
		out = append(out, q)
	}
	out = append(out, record(e.Reason, wide)...)
	if e.summary != "" {
		out = append(out, e.summary)
	}
	limit := -1
	if !wide {
		limit = shortValue
	}
	for _, f := range e.fields {
		out = append(out, f.Text(limit))
	}
	return out
}

// shortValue bounds a value in a table, in characters.
const shortValue = 60

func age(e entry, now time.Time) string { return duration.HumanDuration(now.Sub(e.Time)) }

// stamp is a moment in full, in the reader's time zone.
func stamp(t time.Time) string { return t.Local().Format("2006-01-02T15:04:05.000Z07:00") }

// footer says what the selection left out, and how to see it.
func (s *selection) footer() string {
	if s.raw {
		return ""
	}
	var parts []string
	if s.reports > 0 {
		parts = append(parts, fmt.Sprintf("%s of status (--status shows them)", count(s.reports, "report")))
	}
	if s.bookkeeper > 0 {
		parts = append(parts, fmt.Sprintf("%s of bookkeeping (--all)", count(s.bookkeeper, "change")))
	}
	left := strings.Join(parts, ", ")
	switch {
	case len(s.shown) == 0 && left == "":
		return "No change matches.\n"
	case len(s.shown) == 0:
		return "No change matches; not shown: " + left + "\n"
	case left == "":
		return ""
	}
	return "Not shown: " + left + "\n"
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
