package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"

	"github.com/orlog-io/orlog/cli/orlog/change"
	"github.com/orlog-io/orlog/events"
)

// historyFlags are what the user asked history for.
type historyFlags struct {
	since, actor, field string
	status, all, wide   bool
	limit               int
	output              string
	secrets             bool
}

func newHistoryCommand(api *apiClient, streams genericiooptions.IOStreams) *cobra.Command {
	o := &historyFlags{}
	c := &cobra.Command{
		Use:   "history KIND/NAME",
		Short: "Show every change of an object: when, who, from what to what",
		Long: `Show every change of an object: when, who, from what to what.

The table leaves out reports of status and controllers' bookkeeping (revision annotations, copies, time
stamps); the line below it says how much. JSON and YAML hold every event as it is, but for the values of Secrets
(--show-secrets). Objects that are gone keep
their history, also where their kind is gone with them: name it RESOURCE.GROUP/NAME then.`,
		Example: `  # What happened to a deployment, and who did it
  orlog history deployment/web

  # Since yesterday's lunch, what alice did
  orlog history deployment/web --since "yesterday 12:00" --actor alice

  # Only its image: who changed it, when, from what
  orlog history deployment/web --field 'spec.template.spec.containers[web].image'

  # What people did, not controllers
  orlog history deployment/web --actor '!system:*'

  # With every report of its status, the newest ten
  orlog history deployment/web --status --limit 10

  # Everything there is, for a program
  orlog history deployment/web -o json

  # Objects that are gone keep their history
  orlog history pod/web-6d9f-x2x4k`,
		Args: objectArgs,
		RunE: func(c *cobra.Command, args []string) error {
			t, err := api.object(args)
			if err != nil {
				return err
			}
			return o.run(c.Context(), api, t, streams)
		},
	}
	f := c.Flags()
	f.StringVar(&o.since, "since", "", "Only changes after this moment: how long ago (12m, 2d), a time (14:05, \"yesterday 14:05\", 2026-11-20T14:05:00Z) or a sequence (4711)")
	f.StringVar(&o.actor, "actor", "", "Only what this identity did, or others for it; a pattern too: 'system:*', or '!system:*' for everybody else")
	f.StringVar(&o.field, "field", "", "Only changes at or below this field: spec.replicas, spec.template.spec.containers[web].image")
	f.BoolVar(&o.status, "status", false, "Show reports of status too, not only what somebody wanted")
	f.BoolVar(&o.all, "all", false, "Show bookkeeping too")
	f.IntVar(&o.limit, "limit", 0, "Show the newest N changes only (0: all)")
	f.BoolVar(&o.wide, "wide", false, "Show times, causes and values in full (as -o wide)")
	f.StringVarP(&o.output, "output", "o", "", "wide, json or yaml; empty for a table")
	addShowSecrets(c, &o.secrets)
	completeOutput(c)
	return c
}

// objectArgs accepts KIND/NAME and KIND NAME.
func objectArgs(c *cobra.Command, args []string) error {
	if len(args) < 1 || len(args) > 2 {
		return cmdutil.UsageErrorf(c, "name one object as KIND/NAME, for example deployment/web")
	}
	return nil
}

func (o *historyFlags) run(ctx context.Context, api *apiClient, t target, streams genericiooptions.IOStreams) error {
	switch o.output {
	case "", "json", "yaml":
	case "wide":
		o.wide = true
	default:
		return fmt.Errorf("-o %q: history prints a table, wide, json or yaml", o.output)
	}
	s, err := o.selection(api.now())
	if err != nil {
		return err
	}
	if err := s.read(ctx, api, t); err != nil {
		return err
	}
	if o.output == "json" || o.output == "yaml" {
		entries := make([]entry, 0, len(s.shown))
		for _, e := range s.shown {
			entries = append(entries, e.entry)
		}
		if !o.secrets {
			entries = masked(entries)
		}
		return printObject(streams.Out, o.output, map[string]any{"object": t.String(), "entries": entries})
	}
	if err := printHistory(streams.Out, s.shown, o.wide, api.now()); err != nil {
		return err
	}
	_, err = fmt.Fprint(streams.ErrOut, s.footer())
	return err
}

// selection picks the events that are shown, and counts those that are not.
type selection struct {
	from        uint64    // first sequence
	since       time.Time // zero: no bound
	actor       string
	field       *change.Filter
	status, all bool
	raw         bool // every event as it is
	limit       int

	shown               []told // oldest first
	reports, bookkeeper int    // left out
}

func (o *historyFlags) selection(now time.Time) (*selection, error) {
	s := &selection{from: 1, actor: o.actor, status: o.status, all: o.all, limit: o.limit, raw: o.output == "json" || o.output == "yaml"}
	if o.limit < 0 {
		return nil, fmt.Errorf("--limit %d: want a number of changes, or 0 for all", o.limit)
	}
	if _, err := path.Match(o.actor, ""); err != nil {
		return nil, fmt.Errorf("--actor %q: %w", o.actor, err)
	}
	if o.since != "" {
		sequence, at, err := parsePast("--since", o.since, now)
		if err != nil {
			return nil, err
		}
		s.from, s.since = max(sequence, 1), at
	}
	if o.field != "" {
		f, err := change.ParseFilter(o.field)
		if err != nil {
			return nil, fmt.Errorf("--field: %w", err)
		}
		s.field = &f
		s.status = s.status || f.Under("status")
		s.all = true // who names a field wants to see it, whatever it is
	}
	return s, nil
}

// historyPage is how many events one request asks for.
const historyPage = 1000

// read fetches an object's events, newest first, until the selection has what it wants.
func (s *selection) read(ctx context.Context, api *apiClient, t target) error {
	for to := uint64(0); ; {
		q := url.Values{"limit": {strconv.Itoa(historyPage)}, "from": {strconv.FormatUint(s.from, 10)}}
		if to > 0 {
			q.Set("to", strconv.FormatUint(to, 10))
		}
		var page struct {
			Entries []entry `json:"entries"`
		}
		err := api.ask(ctx, "/orlog/v1/history", &t, q, &page)
		if statusCode(err) == http.StatusNotFound && (to > 0 || s.from > 1) {
			return nil // none in this stretch
		}
		if err != nil {
			return err
		}
		done, err := s.take(ctx, api, page.Entries)
		if err != nil || done || len(page.Entries) < historyPage || page.Entries[0].Sequence <= s.from {
			return err
		}
		to = page.Entries[0].Sequence - 1
	}
}

// take picks from a page, oldest first, and reports whether that is enough.
func (s *selection) take(ctx context.Context, api *apiClient, page []entry) (done bool, err error) {
	var picked []entry
	for _, e := range slices.Backward(page) {
		if !s.since.IsZero() && e.Time.Before(s.since) {
			done = true
			break
		}
		if matchActor(s.actor, e) && s.wanted(e) {
			picked = append(picked, e)
		}
	}
	if s.field == nil && s.limit > 0 && len(picked) > s.limit-len(s.shown) {
		picked = picked[:s.limit-len(s.shown)]
	}
	slices.Reverse(picked)
	if s.raw && s.field == nil {
		page := make([]told, 0, len(picked)+len(s.shown))
		for _, e := range picked {
			page = append(page, told{entry: e})
		}
		s.shown = append(page, s.shown...)
		return done || s.limit > 0 && len(s.shown) >= s.limit, nil
	}
	inWords, objects, err := api.tell(ctx, picked)
	if err != nil {
		return done, err
	}
	var kept []told
	for i, e := range inWords {
		if e, keep := s.narrow(e, objects[i]); keep {
			kept = append(kept, e)
		}
	}
	s.shown = append(kept, s.shown...)
	if s.limit > 0 && len(s.shown) > s.limit {
		s.shown = s.shown[len(s.shown)-s.limit:]
	}
	return done || s.limit > 0 && len(s.shown) >= s.limit, nil
}

// wanted tells by the event alone whether it is shown.
func (s *selection) wanted(e entry) bool {
	if s.raw && s.field == nil {
		return true
	}
	if e.observed() && !s.status && !decisions[e.Verb] {
		s.reports++
		return false
	}
	if !s.all && quiet[e.Verb] {
		fields, err := fieldsOf(e, nil)
		if err == nil && len(fields) > 0 && !slices.ContainsFunc(fields, s.shows) {
			s.bookkeeper++
			return false
		}
	}
	return true
}

// decisions are people's, though they stand in a status.
var decisions = map[string]bool{"approved": true, "denied": true, "revoked": true}

// quiet verbs say nothing beyond their fields.
var quiet = map[string]bool{string(events.Updated): true, "annotated": true, "labelled": true, "status-changed": true, "status-reported": true}

// shows tells whether a field is shown.
func (s *selection) shows(f change.Field) bool {
	return (s.all || !f.Bookkeeping() && f.Path() != "metadata.deletionTimestamp") && (s.status || !f.Status())
}

// narrow leaves the fields that are shown; false where the selection is by field and none is left.
func (s *selection) narrow(e told, after map[string]any) (told, bool) {
	e.fields = slices.DeleteFunc(e.fields, func(f change.Field) bool { return !s.shows(f) })
	if s.field == nil {
		return e, true
	}
	e.summary = ""
	e.fields = slices.DeleteFunc(e.fields, func(f change.Field) bool { return !s.field.Match(f) })
	if e.creation() && after != nil {
		if f, found := s.field.Find(after); found {
			f.Hidden = e.secret()
			e.fields = append(e.fields, f)
		}
	}
	return e, len(e.fields) > 0
}

// matchActor reports whether an identity did it, or it was done for that identity; "!" before the pattern: whether
// not.
func matchActor(pattern string, e entry) bool {
	if pattern == "" {
		return true
	}
	pattern, not := strings.CutPrefix(pattern, "!")
	for _, name := range []string{e.Actor, e.OnBehalfOf, shortActor(e.Actor)} {
		if ok, err := path.Match(pattern, name); name != "" && (name == pattern || err == nil && ok) {
			return !not
		}
	}
	return not
}
