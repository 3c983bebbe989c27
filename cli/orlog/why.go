package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"

	"github.com/orlog-io/orlog/events"
)

type whyFlags struct {
	event     uint64
	all, wide bool
	output    string
	secrets   bool
}

func newWhyCommand(api *apiClient, streams genericiooptions.IOStreams) *cobra.Command {
	o := &whyFlags{}
	c := &cobra.Command{
		Use:   "why KIND/NAME | SEQUENCE",
		Short: "Show the chain of causes that led to an object, back to somebody's command",
		Long: `Show the chain of causes that led to an object's present state, back to somebody's command.

The first line is the answer. Below it stands each event with the one that caused it, newest first. Steps of a
controller's that only carry the chain on are counted and left out; --all shows them.`,
		Example: `  # Why does this pod exist, and why on that node?
  orlog why pod/web-6d9f-x2x4k

  # Why was it so ten minutes ago?
  orlog why deployment/web --at 10m

  # Why did this event happen? (history and tail show sequences)
  orlog why 4711

  # Every step, with full names and times
  orlog why pod/web-6d9f-x2x4k --all --wide

  # The chain for a program
  orlog why pod/web-6d9f-x2x4k -o json`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) < 1 || len(args) > 2 {
				return cmdutil.UsageErrorf(c, "name one object as KIND/NAME, for example pod/web-6d9f-x2x4k, or one event by its sequence")
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			switch o.output {
			case "", "json", "yaml":
			case "wide":
				o.wide = true
			default:
				return fmt.Errorf("-o %q: why prints text, wide, json or yaml", o.output)
			}
			t, err := o.target(c.Context(), api, args)
			if err != nil {
				return err
			}
			return o.run(c.Context(), api, t, streams)
		},
	}
	f := c.Flags()
	f.Uint64Var(&o.event, "event", 0, "Begin with this event of the object, by its sequence. Default: the newest")
	f.BoolVar(&o.all, "all", false, "Show every step and every field")
	f.BoolVar(&o.wide, "wide", false, "Show times, identities and values in full (as -o wide)")
	f.StringVarP(&o.output, "output", "o", "", "wide, json or yaml; empty for text")
	addShowSecrets(c, &o.secrets)
	completeOutput(c)
	return c
}

// target reads the arguments: an object, or an event's sequence, from which the object follows.
func (o *whyFlags) target(ctx context.Context, api *apiClient, args []string) (target, error) {
	sequence, err := strconv.ParseUint(args[0], 10, 64)
	if err != nil || len(args) > 1 {
		return api.object(args)
	}
	var found events.Event
	err = api.events(ctx, url.Values{"from": {args[0]}, "to": {args[0]}}, func(line []byte) error {
		e, err := events.ParseStructured(line)
		found = e
		return err
	})
	if statusCode(err) == http.StatusForbidden {
		return target{}, fmt.Errorf("%w\nname the object that event %d is about: orlog why KIND/NAME --event %d", err, sequence, sequence)
	}
	if err != nil {
		return target{}, err
	}
	if found.Sequence == 0 {
		return target{}, fmt.Errorf("the log has no event %d", sequence)
	}
	o.event = sequence
	return target{Key: found.Subject.Key}, nil
}

// explanation is what why found out.
type explanation struct {
	key   events.Key
	event uint64 // asked for by its sequence; 0: the object's state was
	state state
	// chain leads from the newest event to the first cause; later, where it is not part of that, is what
	// happened to the object since, on somebody else's account.
	chain, later []told
}

func (o *whyFlags) run(ctx context.Context, api *apiClient, t target, streams genericiooptions.IOStreams) error {
	further := url.Values{}
	if o.event != 0 {
		further.Set("sequence", strconv.FormatUint(o.event, 10))
	}
	newest, err := api.chain(ctx, &t, further)
	if err != nil {
		return err
	}
	if o.output != "" && o.output != "wide" {
		if !o.secrets {
			newest = masked(newest)
		}
		return printObject(streams.Out, o.output, map[string]any{"object": t.String(), "chain": newest})
	}
	x := explanation{key: t.Key, event: o.event}
	var later []entry
	if o.event == 0 {
		object, err := api.objectAt(ctx, t.Key, "")
		if err != nil {
			return err
		}
		x.state = stateOf(t.Key, object)
		l, err := api.life(ctx, &t, newest[0])
		if err != nil {
			return err
		}
		if x.state.ends {
			newest, err = l.withRequest(ctx, newest)
		} else {
			newest, later, err = l.answer(ctx, newest, x.state.well)
		}
		if err != nil {
			return err
		}
	}
	for _, c := range []struct {
		from []entry
		to   *[]told
	}{{newest, &x.chain}, {later, &x.later}} {
		if *c.to, _, err = api.tell(ctx, c.from); err != nil {
			return err
		}
	}
	return x.print(streams.Out, printOptions{all: o.all, wide: o.wide, now: api.now()})
}

func (a *apiClient) chain(ctx context.Context, t *target, further url.Values) ([]entry, error) {
	var answer struct {
		Chain []entry `json:"chain"`
	}
	return answer.Chain, a.ask(ctx, "/orlog/v1/why", t, further, &answer)
}
