package main

import (
	"context"
	"fmt"
	"net/url"
	"os/signal"
	"path"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/orlog-io/orlog/events"
)

// tailFlags are what the user wants to see of the stream.
type tailFlags struct {
	from             uint64
	since, until     string
	follow           bool
	kinds, verbs     []string
	name, actor      string
	node, class      string
	namespace        string // "" for all: tail does not use the kubeconfig's
	output, coloured string
	wide, secrets    bool
}

func newTailCommand(api *apiClient, request *requestFlags, streams genericiooptions.IOStreams) *cobra.Command {
	o := &tailFlags{}
	c := &cobra.Command{
		Use:   "tail",
		Short: "Follow the event stream of the cluster",
		Long: `Follow the event stream of the cluster: a line an event, with its sequence, the event that caused it, what
happened to what, who did it and what changed.

All namespaces are shown unless --namespace names one. When the connection breaks, tail connects again and goes
on at the next event: none is missed, none comes twice.`,
		Example: `  # Follow everything that happens from now on
  orlog tail

  # What people do, not what controllers make of it
  orlog tail --actor '!system:*'

  # Everything about one application, beginning ten minutes ago
  orlog tail -n shop --name 'web*' --since 10m

  # One afternoon, as CloudEvents, for a program
  orlog tail --since "yesterday 14:00" --until "yesterday 15:00" -o json

  # What a node has to do, and what it reports
  orlog tail --node worker-1

  # From the first event of the cluster's life, and stop at the end
  orlog tail --from 1 --follow=false`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if request.at != "" {
				return fmt.Errorf("--at is for one moment: tail begins at one with --since %s", request.at)
			}
			if c.Flags().Changed("namespace") {
				o.namespace = c.Flags().Lookup("namespace").Value.String()
			}
			ctx, stop := signal.NotifyContext(c.Context(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			err := o.run(ctx, api, streams)
			if ctx.Err() != nil {
				return nil // asked to stop
			}
			return err
		},
	}
	f := c.Flags()
	f.Uint64Var(&o.from, "from", 0, "Begin at this sequence (1: the first event). Default: only new events")
	f.StringVar(&o.since, "since", "", "Begin after this moment: how long ago (12m), a time (14:05, 2026-11-20T14:05:00Z) or a sequence")
	f.StringVar(&o.until, "until", "", "End at this moment")
	f.BoolVarP(&o.follow, "follow", "f", true, "Go on with new events as they come")
	f.StringSliceVar(&o.kinds, "kind", nil, "Only events about these kinds: pod, deployments.apps")
	f.StringVar(&o.name, "name", "", "Only events about objects of this name; a pattern such as 'web-*' too")
	f.StringVar(&o.actor, "actor", "", "Only what this identity did, or others for it; a pattern too: 'system:*', or '!system:*' for everybody else")
	f.StringSliceVar(&o.verbs, "verb", nil, "Only events of these verbs: scaled, bound, deleted")
	f.StringVar(&o.node, "node", "", "Only events that this node acts on or reports, and those about the node itself")
	f.StringVar(&o.class, "class", "", "Only what is desired, or only what is observed")
	f.StringVarP(&o.output, "output", "o", "", "json for CloudEvents, one a line; wide; empty for readable lines")
	f.StringVar(&o.coloured, "color", "auto", "Colours: auto (on a terminal), always or never")
	f.BoolVar(&o.wide, "wide", false, "Show dates, identities and all changes in full (as -o wide)")
	addShowSecrets(c, &o.secrets)
	completeOutput(c)
	completeTail(api, c)
	return c
}

func (o *tailFlags) validate() error {
	switch o.output {
	case "", "json":
	case "wide":
		o.wide = true
	default:
		return fmt.Errorf("-o %q: tail prints lines, wide or json", o.output)
	}
	if o.class != "" && o.class != string(events.Desired) && o.class != string(events.Observed) {
		return fmt.Errorf("--class %q: want %s or %s", o.class, events.Desired, events.Observed)
	}
	if !slices.Contains([]string{"auto", "always", "never"}, o.coloured) {
		return fmt.Errorf("--color %q: want auto, always or never", o.coloured)
	}
	if o.from != 0 && o.since != "" {
		return fmt.Errorf("--from and --since: give one of them")
	}
	for flag, pattern := range map[string]string{"--name": o.name, "--actor": o.actor} {
		if _, err := path.Match(pattern, ""); err != nil {
			return fmt.Errorf("%s %q: %w", flag, pattern, err)
		}
	}
	return nil
}

func (o *tailFlags) run(ctx context.Context, api *apiClient, streams genericiooptions.IOStreams) error {
	if err := o.validate(); err != nil {
		return err
	}
	filter := &eventFilter{tailFlags: o}
	for _, kind := range o.kinds {
		gvr, _, err := api.resource(kind)
		if err != nil {
			return fmt.Errorf("--kind %s: %w (orlog api-resources lists the kinds)", kind, err)
		}
		filter.kinds = append(filter.kinds, events.Key{Group: gvr.Group, Resource: gvr.Resource})
	}
	f := &follower{api: api, query: filter.query(), follow: o.follow, pause: firstPause, note: streams.ErrOut}
	if err := o.bounds(ctx, api, f); err != nil {
		return err
	}
	p := newEventPrinter(streams.Out, o.wide, useColour(o.coloured, streams.Out))
	return f.run(ctx, func(line []byte) (events.Sequence, error) {
		e, err := events.ParseStructured(line)
		if err != nil {
			return 0, fmt.Errorf("event stream: unreadable line: %w", err)
		}
		if !filter.match(e) {
			return e.Sequence, nil
		}
		if o.output == "json" {
			if !o.secrets {
				line, err = maskedLine(e, line)
			}
			if err == nil {
				_, err = fmt.Fprintf(streams.Out, "%s\n", line)
			}
		} else {
			err = p.print(e)
		}
		return e.Sequence, err
	})
}

// bounds finds the sequences between which to read.
func (o *tailFlags) bounds(ctx context.Context, api *apiClient, f *follower) error {
	now := api.now()
	f.next = events.Sequence(o.from)
	if o.since != "" {
		after, err := o.sequence(ctx, api, "--since", o.since, now)
		if err != nil {
			return err
		}
		f.next = after + 1
		if _, err := strconv.ParseUint(o.since, 10, 64); err == nil {
			f.next = max(after, 1) // a sequence itself is where to begin
		}
	}
	if o.until != "" {
		to, err := o.sequence(ctx, api, "--until", o.until, now)
		if err != nil {
			return err
		}
		f.follow = false
		f.query.Set("to", max(to, 1).String())
		f.next = max(f.next, 1)
		if f.next > max(to, 1) {
			return fmt.Errorf("--until %s is before where to begin (sequence %d): nothing to show", o.until, f.next)
		}
	}
	if f.next == 0 && f.follow {
		p, err := api.position(ctx, "")
		if err != nil {
			return err
		}
		f.next = events.Sequence(p.Last) + 1
	}
	f.next = max(f.next, 1)
	return nil
}

// sequence is the last event at or before a moment, 0 where the log begins later.
func (o *tailFlags) sequence(ctx context.Context, api *apiClient, flag, text string, now time.Time) (events.Sequence, error) {
	sequence, at, err := parsePast(flag, text, now)
	if err != nil || at.IsZero() {
		return events.Sequence(sequence), err
	}
	p, err := api.position(ctx, at.UTC().Format(time.RFC3339Nano))
	if err != nil && strings.Contains(err.Error(), "the log begins after") {
		return 0, nil
	}
	return events.Sequence(p.Sequence), err
}

// eventFilter picks events; as much as it can it leaves to the gateway.
type eventFilter struct {
	*tailFlags
	kinds []events.Key
}

// query is what the gateway filters by.
func (f *eventFilter) query() url.Values {
	q := url.Values{}
	if f.class != "" {
		q.Set("class", f.class)
	}
	if len(f.kinds) == 1 { // namespace and name go with one kind only
		q.Set("group", f.kinds[0].Group)
		q.Set("resource", f.kinds[0].Resource)
		if f.namespace != "" {
			q.Set("namespace", f.namespace)
		}
		if f.name != "" && !strings.ContainsAny(f.name, `*?[\`) {
			q.Set("name", f.name)
		}
	}
	return q
}

func (f *eventFilter) match(e events.Event) bool {
	k := e.Subject.Key
	if len(f.kinds) > 0 && !slices.Contains(f.kinds, events.Key{Group: k.Group, Resource: k.Resource}) {
		return false
	}
	if f.namespace != "" && k.Namespace != f.namespace && (k.Resource != "namespaces" || k.Name != f.namespace) {
		return false
	}
	if ok, err := path.Match(f.name, k.Name); f.name != "" && (!ok || err != nil) {
		return false
	}
	if len(f.verbs) > 0 && !slices.Contains(f.verbs, string(e.Verb())) {
		return false
	}
	if f.node != "" && e.Subject.Node != f.node && (k.Resource != "nodes" || k.Name != f.node) {
		return false
	}
	if f.class != "" && string(e.Subject.Class) != f.class {
		return false
	}
	return matchActor(f.actor, entry{Actor: e.Actor, OnBehalfOf: e.OnBehalfOf})
}
