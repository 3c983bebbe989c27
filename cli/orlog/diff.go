package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/pmezard/go-difflib/difflib"
	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"
	"sigs.k8s.io/yaml"

	"github.com/orlog-io/orlog/events"
)

type diffFlags struct{ from, to string }

// extendDiff gives kubectl's diff a second use: with an object named it compares two moments of that object;
// without, it stays what it was.
func extendDiff(root *cobra.Command, api *apiClient, request *requestFlags, streams genericiooptions.IOStreams) {
	c := subcommand(root, "diff")
	manifests := c.Run
	o := &diffFlags{}
	c.Use = "diff (-f FILENAME | KIND/NAME [--from MOMENT] [--to MOMENT])"
	c.Short = "Diff the live version against a manifest, or an object at two moments"
	c.Long = strings.TrimSpace(`
Diff an object at two moments, or the live version against a manifest.

With KIND/NAME: shows what changed in the object between --from and --to, as YAML, without managed fields,
resource version and kubectl's copy of the manifest (--show-managed-fields keeps them). --to is now unless
given, --from right before the newest change that somebody wanted. Values of Secrets are masked unless
--show-secrets is given. The exit status is 0 without differences, 1 with some, above 1 after an error.

With -f, what applying a manifest would change:

`) + "\n\n" + c.Long
	c.Example = `  # What did the newest change do?
  orlog diff deployment/web

  # What changed since yesterday evening, and between two events
  orlog diff deployment/web --from "yesterday 18:00"
  orlog diff deployment/web --from 4711 --to 4790

` + c.Example
	c.Flags().StringVar(&o.from, "from", "", "With KIND/NAME: the earlier moment (12m, \"yesterday 14:05\", 2026-11-20T14:05:00Z, 4711)")
	c.Flags().StringVar(&o.to, "to", "", "With KIND/NAME: the later moment. Default: now")
	c.Run = func(c *cobra.Command, args []string) {
		if len(args) == 0 && o.from == "" && o.to == "" {
			manifests(c, args)
			return
		}
		if c.Flags().Changed("filename") || c.Flags().Changed("kustomize") {
			cmdutil.CheckDiffErr(cmdutil.UsageErrorf(c, "-f compares with a manifest, KIND/NAME two moments: give one of them"))
		}
		o.to = cmp.Or(o.to, request.at)
		request.moment = "" // --at is --to here
		differs, err := o.run(c, api, args, streams)
		cmdutil.CheckDiffErr(err)
		if differs {
			cmdutil.CheckErr(cmdutil.ErrExit)
		}
	}
}

// subcommand finds a direct subcommand that must be there.
func subcommand(root *cobra.Command, name string) *cobra.Command {
	for _, c := range root.Commands() {
		if c.Name() == name {
			return c
		}
	}
	panic("kubectl has no command " + name) // a mistake in this program: go.mod pins kubectl
}

func (o *diffFlags) run(c *cobra.Command, api *apiClient, args []string, streams genericiooptions.IOStreams) (differs bool, err error) {
	t, err := api.object(args)
	if err != nil {
		return false, err
	}
	keep, err := c.Flags().GetBool("show-managed-fields")
	if err != nil {
		return false, err
	}
	secrets, err := c.Flags().GetBool("show-secrets")
	if err != nil {
		return false, err
	}
	sides, err := o.sides(c.Context(), api, &t)
	if err != nil {
		return false, err
	}
	if sides[0].object == nil && sides[1].object == nil {
		return false, fmt.Errorf("%s was there neither %s nor %s: orlog history %s shows when it was", t, sides[0].name, sides[1].name, t)
	}
	if t.GroupResource() == "secrets" && !secrets {
		maskSecrets(sides[0].object, sides[1].object)
	}
	var text [2]string
	for i, s := range sides {
		if text[i], err = asYAML(s.object, keep); err != nil {
			return false, err
		}
	}
	return printDiff(streams.Out, t.Key, sides, text, useColour("auto", streams.Out))
}

// side is the object at one moment.
type side struct {
	name   string // "at sequence 4711", "at 2026-11-20T14:05:00Z", "now"
	object map[string]any
}

func (o *diffFlags) sides(ctx context.Context, api *apiClient, t *target) (s [2]side, err error) {
	now := api.now()
	moments := [2]string{}
	for i, m := range []struct{ flag, text string }{{"--from", o.from}, {"--to", o.to}} {
		if m.text == "" || m.text == "now" {
			s[i].name = "now"
			continue
		}
		if moments[i], err = parseMoment(m.text, now); err != nil {
			return s, fmt.Errorf("%s: %w", m.flag, err)
		}
		s[i].name = "at " + moments[i]
		if _, err := strconv.ParseUint(moments[i], 10, 64); err == nil {
			s[i].name = "at sequence " + moments[i]
		}
	}
	if o.from == "" {
		newest, err := api.newestIntent(ctx, t, moments[1])
		if err != nil {
			return s, err
		}
		moments[0] = strconv.FormatUint(newest-1, 10)
		s[0].name = fmt.Sprintf("before sequence %d", newest)
	}
	for i := range s {
		if i == 0 && moments[0] == "0" {
			continue // before the first event there was nothing
		}
		if s[i].object, err = api.objectAt(ctx, t.Key, moments[i]); err != nil {
			return s, err
		}
	}
	return s, nil
}

// newestIntent is the newest event by which somebody changed the object, up to a moment ("" for now).
func (a *apiClient) newestIntent(ctx context.Context, t *target, until string) (uint64, error) {
	q := url.Values{"limit": {strconv.Itoa(historyPage)}}
	if until != "" {
		p, err := a.position(ctx, until)
		if err != nil {
			return 0, err
		}
		q.Set("to", strconv.FormatUint(p.Sequence, 10))
	}
	var page struct {
		Entries []entry `json:"entries"`
	}
	if err := a.ask(ctx, "/orlog/v1/history", t, q, &page); err != nil {
		return 0, err
	}
	telling := &selection{}
	for _, e := range slices.Backward(page.Entries) {
		if !e.observed() && telling.wanted(e) {
			return e.Sequence, nil
		}
	}
	return 0, fmt.Errorf("%s: its newest %d events are all reports of status: say with --from where to begin", t, len(page.Entries))
}

// asYAML is an object without what every write moves.
func asYAML(object map[string]any, keep bool) (string, error) {
	if object == nil {
		return "", nil
	}
	if meta, ok := object["metadata"].(map[string]any); ok && !keep {
		delete(meta, "managedFields")
		delete(meta, "resourceVersion")
		if annotations, ok := meta["annotations"].(map[string]any); ok {
			delete(annotations, "kubectl.kubernetes.io/last-applied-configuration")
			if len(annotations) == 0 {
				delete(meta, "annotations")
			}
		}
	}
	b, err := yaml.Marshal(object)
	return string(b), err
}

// maskSecrets hides the values of two states of a Secret, but not whether they differ.
func maskSecrets(before, after map[string]any) {
	const masked = "***"
	for _, field := range []string{"data", "stringData"} {
		was, _ := before[field].(map[string]any)
		is, _ := after[field].(map[string]any)
		for k := range was {
			if now, both := is[k]; both && now != was[k] {
				was[k], is[k] = masked+" (before)", masked+" (after)"
			} else {
				was[k] = masked
			}
		}
		for k, v := range is {
			if s, ok := v.(string); !ok || !strings.HasPrefix(s, masked) {
				is[k] = masked
			}
		}
	}
	for _, object := range []map[string]any{before, after} {
		if meta, ok := object["metadata"].(map[string]any); ok {
			if annotations, ok := meta["annotations"].(map[string]any); ok {
				delete(annotations, "kubectl.kubernetes.io/last-applied-configuration")
			}
		}
	}
}

// printDiff prints two texts' differences in unified form and tells whether there are any.
func printDiff(w io.Writer, key events.Key, sides [2]side, text [2]string, coloured bool) (bool, error) {
	name := func(s side) string {
		if s.object == nil {
			return fmt.Sprintf("%s %s (it was not there)", key, s.name)
		}
		return fmt.Sprintf("%s %s", key, s.name)
	}
	d := difflib.UnifiedDiff{A: splitLines(text[0]), B: splitLines(text[1]), FromFile: name(sides[0]), ToFile: name(sides[1]), Context: 3}
	out, err := difflib.GetUnifiedDiffString(d)
	if err != nil || out == "" {
		return false, err
	}
	p := palette(coloured)
	for line := range strings.Lines(out) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case strings.HasPrefix(line, "+++"), strings.HasPrefix(line, "---"), strings.HasPrefix(line, "@@"):
			line = p.dim(line)
		case strings.HasPrefix(line, "+"):
			line = p.green(line)
		case strings.HasPrefix(line, "-"):
			line = p.red(line)
		}
		if _, err := fmt.Fprintln(w, line); err != nil {
			return true, err
		}
	}
	return true, nil
}

func splitLines(s string) []string {
	return slices.Collect(strings.Lines(s))
}
