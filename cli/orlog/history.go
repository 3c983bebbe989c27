package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/cli-runtime/pkg/printers"

	"github.com/orlog-io/orlog/events"
)

// entry is one event as the gateway's history and why endpoints describe it.
type entry struct {
	Sequence    uint64    `json:"sequence"`
	Time        time.Time `json:"time"`
	Actor       string    `json:"actor"`
	OnBehalfOf  string    `json:"onBehalfOf,omitempty"`
	Type        string    `json:"type"`
	Verb        string    `json:"verb"`
	Class       string    `json:"class"` // desired or observed
	Subject     string    `json:"subject,omitempty"`
	Reason      string    `json:"reason,omitempty"`
	Cause       uint64    `json:"cause,omitempty"`
	Correlation uint64    `json:"correlation,omitempty"`
	Changes     []change  `json:"changes,omitempty"`
}

type change struct {
	Path string          `json:"path"`
	From json.RawMessage `json:"from,omitempty"`
	To   json.RawMessage `json:"to,omitempty"`
}

func newHistoryCommand(api *apiClient, streams genericiooptions.IOStreams) *cobra.Command {
	var limit int
	var status bool
	var output string
	c := &cobra.Command{
		Use:   "history KIND/NAME",
		Short: "Show every change of an object: when, who, from what to what",
		Example: `  # What happened to a deployment, and who did it
  orlog history deployment/web

  # The last five changes, as JSON
  orlog history deployment/web --limit 5 -o json

  # With every report of its status
  orlog history deployment/web --status

  # Objects that are gone keep their history
  orlog history pod/web-6d9f-x2x4k`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(c *cobra.Command, args []string) error {
			q, err := api.object(args)
			if err != nil {
				return err
			}
			if limit > 0 {
				q.Set("limit", strconv.Itoa(limit))
			}
			var answer struct {
				Entries []entry `json:"entries"`
			}
			if err := api.getJSON(c.Context(), "/orlog/v1/history", q, &answer); err != nil {
				return err
			}
			if output == "json" {
				return printJSON(streams.Out, answer)
			}
			if output != "" {
				return fmt.Errorf("-o %q: history prints a table, or json", output)
			}
			return printHistory(streams.Out, answer.Entries, status, time.Now())
		},
	}
	c.Flags().BoolVar(&status, "status", false, "Show reports of status too, not only what somebody wanted")
	c.Flags().IntVar(&limit, "limit", 0, "Show the newest N changes only (0: all)")
	c.Flags().StringVarP(&output, "output", "o", "", "json, or empty for a table")
	return c
}

func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// printHistory prints a line a change; reports of status only where asked for.
func printHistory(w io.Writer, entries []entry, status bool, now time.Time) error {
	t := printers.GetNewTabWriter(w)
	fmt.Fprintln(t, "SEQUENCE\tAGE\tWHO\tWHAT\tCHANGED")
	for _, e := range entries {
		if e.Class == string(events.Observed) && !status {
			continue
		}
		lines := describeChanges(e.Changes)
		if e.Reason != "" && !strings.HasPrefix(e.Reason, "{") {
			lines = append([]string{strconv.Quote(e.Reason)}, lines...)
		}
		if len(lines) == 0 {
			lines = []string{""}
		}
		fmt.Fprintf(t, "%d\t%s\t%s\t%s\t%s\n", e.Sequence, duration.HumanDuration(now.Sub(e.Time)), who(e), e.Verb, lines[0])
		for _, l := range lines[1:] {
			fmt.Fprintf(t, "\t\t\t\t%s\n", l)
		}
	}
	return t.Flush()
}

func who(e entry) string {
	if e.OnBehalfOf != "" && e.OnBehalfOf != e.Actor {
		return e.Actor + " for " + e.OnBehalfOf
	}
	return e.Actor
}

// describeChanges puts each change on one line. Bookkeeping is left out: kubectl's last-applied annotation
// repeats the whole manifest, and conditions' timestamps move with every report.
func describeChanges(changes []change) []string {
	var out []string
	for _, c := range changes {
		if strings.Contains(c.Path, "last-applied-configuration") || strings.HasSuffix(c.Path, "Time") {
			continue
		}
		path := strings.ReplaceAll(strings.TrimPrefix(c.Path, "/"), "/", ".")
		path = strings.NewReplacer("~1", "/", "~0", "~").Replace(path)
		switch {
		case len(c.From) == 0:
			out = append(out, fmt.Sprintf("%s: %s (new)", path, short(c.To)))
		case len(c.To) == 0:
			out = append(out, fmt.Sprintf("%s: %s -> removed", path, short(c.From)))
		default:
			out = append(out, fmt.Sprintf("%s: %s -> %s", path, short(c.From), short(c.To)))
		}
	}
	return out
}

const shortLength = 60

func short(v json.RawMessage) string {
	s := string(v)
	var text string
	if json.Unmarshal(v, &text) == nil {
		s = text
	}
	if len(s) > shortLength {
		s = s[:shortLength-3] + "..."
	}
	return s
}
