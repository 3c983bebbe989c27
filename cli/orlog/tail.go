package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"context"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericiooptions"
)

// cloudEvent is what tail shows of an event: CloudEvents 1.0, structured mode, with Orlog's extensions.
type cloudEvent struct {
	Sequence string    `json:"sequence"`
	Type     string    `json:"type"`
	Subject  string    `json:"subject"`
	Time     time.Time `json:"time"`
	Actor    string    `json:"actor"`
	Cause    string    `json:"cause"`
	Reason   string    `json:"reason"`
}

// maxEventLine bounds one line of the stream: the largest event (4 MiB) and its envelope.
const maxEventLine = 8 << 20

func newTailCommand(api *apiClient, streams genericiooptions.IOStreams) *cobra.Command {
	var output string
	var from uint64
	var follow bool
	c := &cobra.Command{
		Use:   "tail",
		Short: "Follow the event stream of the cluster",
		Example: `  # Follow everything that happens from now on
  orlog tail

  # From the first event of the cluster's life, as CloudEvents, and stop at the end
  orlog tail --from 1 --follow=false -o json`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if output != "" && output != "json" {
				return fmt.Errorf("-o %q: tail prints lines, or json", output)
			}
			ctx, stop := signal.NotifyContext(c.Context(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			q := url.Values{"follow": {strconv.FormatBool(follow)}}
			if c.Flags().Changed("from") {
				q.Set("from", strconv.FormatUint(from, 10))
			}
			body, err := api.get(ctx, "/orlog/v1/events", q)
			if err != nil {
				return err
			}
			defer body.Close()
			if err := printEvents(streams.Out, body, output == "json"); err != nil && ctx.Err() == nil && !errors.Is(err, context.Canceled) {
				return err
			}
			return nil
		},
	}
	c.Flags().StringVarP(&output, "output", "o", "", "json for CloudEvents, one a line; empty for readable lines")
	c.Flags().Uint64Var(&from, "from", 0, "Begin at this sequence (1: the first event). Default: only new events")
	c.Flags().BoolVarP(&follow, "follow", "f", true, "Go on with new events as they come")
	return c
}

func printEvents(w io.Writer, r io.Reader, asJSON bool) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 64<<10), maxEventLine)
	for lines.Scan() {
		if len(lines.Bytes()) == 0 {
			continue
		}
		if asJSON {
			if _, err := fmt.Fprintf(w, "%s\n", lines.Bytes()); err != nil {
				return err
			}
			continue
		}
		var e cloudEvent
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return fmt.Errorf("event stream: unreadable line: %w", err)
		}
		cause := ""
		if e.Cause != "" {
			cause = " <- " + e.Cause
		}
		if _, err := fmt.Fprintf(w, "%7s%s %s  %-34s %-44s %s\n", e.Sequence, cause, e.Time.Local().Format("15:04:05.000"), trimType(e.Type), e.Subject, e.Actor); err != nil {
			return err
		}
	}
	return lines.Err()
}

func trimType(t string) string {
	const prefix = "io.orlog."
	if len(t) > len(prefix) && t[:len(prefix)] == prefix {
		return t[len(prefix):]
	}
	return t
}
