package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/cli-runtime/pkg/genericiooptions"
)

func newWhyCommand(api *apiClient, streams genericiooptions.IOStreams) *cobra.Command {
	var output string
	c := &cobra.Command{
		Use:   "why KIND/NAME",
		Short: "Show the chain of causes that led to an object, back to somebody's command",
		Example: `  # Why does this pod exist, and why on that node?
  orlog why pod/web-6d9f-x2x4k

  # The chain as JSON
  orlog why pod/web-6d9f-x2x4k -o json`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(c *cobra.Command, args []string) error {
			q, err := api.object(args)
			if err != nil {
				return err
			}
			var answer struct {
				Chain []entry `json:"chain"`
			}
			if err := api.getJSON(c.Context(), "/orlog/v1/why", q, &answer); err != nil {
				return err
			}
			if output == "json" {
				return printJSON(streams.Out, answer)
			}
			if output != "" {
				return fmt.Errorf("-o %q: why prints text, or json", output)
			}
			return printChain(streams.Out, answer.Chain, time.Now())
		},
	}
	c.Flags().StringVarP(&output, "output", "o", "", "json, or empty for text")
	return c
}

// printChain prints the newest event first, each indented below what it led to.
func printChain(w io.Writer, chain []entry, now time.Time) error {
	for i, e := range chain {
		indent := strings.Repeat("  ", i)
		lead := ""
		if i > 0 {
			lead = "because "
		}
		if _, err := fmt.Fprintf(w, "%s%s%s %s\n", indent, lead, e.Subject, e.Verb); err != nil {
			return err
		}
		fmt.Fprintf(w, "%s  by %s, %s ago, sequence %d\n", indent, who(e), duration.HumanDuration(now.Sub(e.Time)), e.Sequence)
		for _, l := range describeChanges(e.Changes) {
			fmt.Fprintf(w, "%s  %s\n", indent, l)
		}
		for _, l := range describeReason(e.Reason) {
			fmt.Fprintf(w, "%s  %s\n", indent, l)
		}
	}
	return nil
}

// describeReason prints a person's words quoted, and a decision record's fields a line each.
func describeReason(reason string) []string {
	if reason == "" {
		return nil
	}
	var record map[string]json.RawMessage
	if json.Unmarshal([]byte(reason), &record) != nil {
		return []string{fmt.Sprintf("reason: %q", reason)}
	}
	var out []string
	for _, k := range slices.Sorted(maps.Keys(record)) {
		out = append(out, fmt.Sprintf("%s: %s", k, record[k]))
	}
	return out
}
