package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/orlog-io/orlog/cli/orlog/change"
)

// deepest bounds how far the tree moves to the right.
const deepest = 12

// tree prints a chain, newest first, each event below the one that it caused.
func (x explanation) tree(w io.Writer, chain []told, o printOptions) error {
	key := make([]bool, len(chain))
	for i := range chain {
		key[i] = o.all || x.telling(chain, i)
	}
	depth := 0
	for i := 0; i < len(chain); {
		skipped := 0
		for i+skipped < len(chain) && !key[i+skipped] {
			skipped++
		}
		var lines []string
		if skipped > 1 {
			lines = []string{between(chain[i : i+skipped])}
			i += skipped
		} else {
			lines = chain[i].treeLines(o)
			i++
		}
		indent := strings.Repeat("   ", min(depth, deepest))
		branch, stem := "", "   "
		if depth > 0 {
			indent, branch = strings.Repeat("   ", min(depth, deepest)-1), "└─ "
		}
		for n, l := range lines {
			lead := branch
			if n > 0 && branch != "" {
				lead = stem
			}
			if _, err := fmt.Fprintf(w, "%s%s%s\n", indent, lead, l); err != nil {
				return err
			}
		}
		depth++
	}
	return nil
}

// telling picks the steps that a person wants to see: the ends of the chain, what happened to the object
// itself, where people acted or something went wrong, and where the chain first reaches a further kind.
func (x explanation) telling(chain []told, i int) bool {
	e := chain[i]
	switch {
	case i == 0 || i == len(chain)-1 || e.Hidden:
		return true
	case troubles[e.Verb] || !strings.HasPrefix(e.Actor, "system:"):
		return true
	case e.key() == x.key:
		again := func(o told) bool { return o.key() == e.key() && o.Verb == e.Verb }
		return !quiet[e.Verb] && !slices.ContainsFunc(chain[:i], again)
	case e.observed():
		return false
	}
	kind := func(o told) bool {
		return !o.Hidden && !o.observed() && o.key().GroupResource() == e.key().GroupResource()
	}
	return !slices.ContainsFunc(chain[:i], kind)
}

// between stands for steps that are left out.
func between(steps []told) string {
	var objects []string
	for _, e := range steps {
		if what := e.kind() + " " + e.key().Name; !slices.Contains(objects, what) {
			objects = append(objects, what)
		}
	}
	if len(objects) > 3 {
		objects = append(objects[:3], "...")
	}
	return fmt.Sprintf("(%d steps about %s: --all shows them)", len(steps), strings.Join(objects, ", "))
}

// treeLines are an event's lines: what, by whom and when, then what it says.
func (e told) treeLines(o printOptions) []string {
	when := age(e.entry, o.now) + " ago"
	if o.wide {
		when += ", " + stamp(e.Time)
	}
	if e.Hidden {
		return []string{fmt.Sprintf("an event about an object that you may not read, %s (#%d)", when, e.Sequence)}
	}
	what := strings.ReplaceAll(e.Verb, "-", " ")
	if e.Verb == "bound" {
		what += boundTo(e, " to ")
	}
	lines := []string{fmt.Sprintf("%s %s, by %s, %s (#%d)", e.Subject, what, who(e.entry, o.wide), when, e.Sequence)}
	if !o.all {
		e.fields = slices.DeleteFunc(slices.Clone(e.fields), e.dull)
	}
	for _, l := range e.lines(o.wide) {
		lines = append(lines, "  "+l)
	}
	return lines
}

// dull fields say nothing that the event's name does not say, or nothing to the point.
func (e told) dull(f change.Field) bool {
	if f.Bookkeeping() || f.Minor || f.Path() == "metadata.deletionTimestamp" {
		return true
	}
	if e.Verb == "bound" {
		return true // the name of the node is in the first line, the decision in the record
	}
	if !e.observed() {
		return f.Status()
	}
	return e.kind() == "pod" && podAddresses[f.Path()]
}

// podAddresses are fields of every pod's first report.
var podAddresses = map[string]bool{"status.hostIP": true, "status.hostIPs": true, "status.podIP": true, "status.podIPs": true, "status.startTime": true, "status.qosClass": true}
