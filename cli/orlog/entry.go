package main

import (
	"context"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/orlog-io/orlog/cli/orlog/change"
	"github.com/orlog-io/orlog/events"
)

// entry is one event as the gateway's history and why endpoints describe it.
type entry struct {
	Sequence    uint64          `json:"sequence"`
	Time        time.Time       `json:"time"`
	Actor       string          `json:"actor,omitempty"`
	OnBehalfOf  string          `json:"onBehalfOf,omitempty"`
	Type        string          `json:"type,omitempty"`
	Verb        string          `json:"verb,omitempty"`
	Class       string          `json:"class,omitempty"` // desired or observed
	Subject     string          `json:"subject,omitempty"`
	Source      string          `json:"source,omitempty"`
	UID         string          `json:"uid,omitempty"`
	Reason      string          `json:"reason,omitempty"`
	Cause       uint64          `json:"cause,omitempty"`
	Correlation uint64          `json:"correlation,omitempty"`
	Changes     []change.Change `json:"changes,omitempty"`
	// Hidden: about an object that the user may not read.
	Hidden bool `json:"hidden,omitempty"`
}

// kind is the lower-case kind in the event's type.
func (e entry) kind() string { return events.Event{Type: e.Type}.Kind() }

func (e entry) key() events.Key {
	k, err := events.ParseKey(e.Subject)
	if err != nil {
		return events.Key{Name: e.Subject} // a hidden entry has none
	}
	return k
}

func (e entry) observed() bool { return e.Class == string(events.Observed) }
func (e entry) creation() bool { return !e.observed() && e.Verb == string(events.Created) }

func (e entry) secret() bool {
	k := e.key()
	return k.Group == "" && k.Resource == "secrets"
}

// told is an entry in words.
type told struct {
	entry
	// fields are what changed, named by their list elements where the object could be read.
	fields []change.Field
	// summary is what was created, in a few words.
	summary string
}

// fieldsOf reads an entry's changes. after is the object right after them, nil where it is not known.
func fieldsOf(e entry, after map[string]any) ([]change.Field, error) {
	return change.Fields(e.Changes, change.Options{After: after, Secret: e.secret()})
}

// needsObject reports whether telling an entry well takes the object as it was right after it.
func needsObject(e entry) bool {
	if e.creation() {
		return true
	}
	for _, c := range e.Changes {
		if change.HasIndex(c.Path) {
			return true
		}
	}
	return false
}

// objectReads bounds how many objects of the past are read at once.
const objectReads = 8

// tell puts entries into words. Objects that cannot be read (any more) only cost their elements' names.
func (a *apiClient) tell(ctx context.Context, entries []entry) ([]told, []map[string]any, error) {
	out, objects := make([]told, len(entries)), make([]map[string]any, len(entries))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(objectReads)
	for i, e := range entries {
		g.Go(func() error {
			var after map[string]any
			if needsObject(e) && !e.Hidden {
				var err error
				if after, err = a.objectAt(ctx, e.key(), strconv.FormatUint(e.Sequence, 10)); err != nil {
					if ctx.Err() != nil {
						return ctx.Err()
					}
					after = nil
				}
			}
			fields, err := fieldsOf(e, after)
			if err != nil {
				return err
			}
			out[i], objects[i] = told{entry: e, fields: fields}, after
			if e.creation() && after != nil {
				out[i].summary = summary(e.key(), after)
			}
			return nil
		})
	}
	return out, objects, g.Wait()
}

// who is an actor as people say it. full keeps the identity as it was authenticated.
func who(e entry, full bool) string {
	name := shortActor
	if full {
		name = func(s string) string { return change.Value(s, 0) }
	}
	if e.OnBehalfOf != "" && e.OnBehalfOf != e.Actor {
		return name(e.Actor) + " for " + name(e.OnBehalfOf)
	}
	return name(e.Actor)
}

// shortActor leaves out what every system identity begins with. A person's name that could be taken for a
// short one is marked, so that nobody passes for a controller.
func shortActor(actor string) string {
	const account = "system:serviceaccount:"
	switch {
	case strings.HasPrefix(actor, account+"kube-system:") && controllerName(actor):
		return actor[len(account+"kube-system:"):]
	case strings.HasPrefix(actor, account):
		namespace, name, _ := strings.Cut(actor[len(account):], ":")
		return "serviceaccount " + namespace + "/" + name
	case strings.HasPrefix(actor, "system:node:"):
		return "node " + actor[len("system:node:"):]
	case actor == "system:kube-scheduler":
		return "scheduler"
	case strings.HasPrefix(actor, "system:"):
		return actor
	case actor == "scheduler" || controllerName(actor) || strings.Contains(actor, " "):
		return "user " + strconv.Quote(actor)
	}
	return change.Value(actor, 0)
}

// controllerName reports whether a name ends as those of the cluster's own controllers do.
func controllerName(s string) bool {
	return strings.HasSuffix(s, "-controller") || strings.HasSuffix(s, "-collector") || strings.HasSuffix(s, "-publisher")
}

// words are a person's reason, "" for none and for a machine's record.
func words(reason string) string {
	if reason == "" || strings.HasPrefix(reason, "{") {
		return ""
	}
	return strconv.Quote(reason)
}
