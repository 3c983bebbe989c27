package projections

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/orlog-io/orlog/events"
)

// model is the store's specification: it keeps every event and folds them all for every question.
type model struct{ log []events.Event }

// states folds events 1..seq.
func (m model) states(seq events.Sequence) map[events.Key]events.State {
	out := map[events.Key]events.State{}
	for _, e := range m.log {
		if e.Sequence > seq {
			break
		}
		prev := out[e.Subject.Key]
		prev.Key = e.Subject.Key
		out[e.Subject.Key], _ = events.Fold(prev, e)
	}
	return out
}

func (m model) list(seq events.Sequence, sel Selector) []events.State {
	var out []events.State
	for k, st := range m.states(seq) {
		if st.Exists() && sel.Matches(k) {
			out = append(out, st)
		}
	}
	slices.SortFunc(out, func(a, b events.State) int { return compareKeys(a.Key, b.Key) })
	return out
}

func compareKeys(a, b events.Key) int {
	return cmp.Or(cmp.Compare(a.Group, b.Group), cmp.Compare(a.Resource, b.Resource), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
}

func (m model) changes(from events.Sequence, sel Selector) []Change {
	var out []Change
	state := map[events.Key]events.State{}
	for _, e := range m.log {
		k := e.Subject.Key
		prev := state[k]
		prev.Key = k
		next, changed := events.Fold(prev, e)
		state[k] = next
		if e.Sequence > from && sel.Matches(k) && (changed || sel.Ignored) {
			out = append(out, newChange(e, prev, next, changed))
		}
	}
	return out
}

// history writes random but lawful and unlawful events: creations, recreations under a new uid, updates with
// and without status, status reports in time and too late, deletions, deletions of nothing.
type history struct {
	r      *rand.Rand
	clock  time.Time
	next   events.Sequence
	living map[events.Key]string
	uids   int
}

func newHistory(seed uint64) *history {
	return &history{r: rand.New(rand.NewPCG(seed, 1)), clock: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), living: map[events.Key]string{}}
}

var historyNames = []string{"a", "a\x00b", "a.b", "ab", "b", "z%"}

func (h *history) key() events.Key {
	k := events.Key{Resource: "pods", Namespace: []string{"", "default", "default-2", "kube-system"}[h.r.IntN(4)], Name: historyNames[h.r.IntN(len(historyNames))]}
	switch h.r.IntN(4) {
	case 0:
		k.Group, k.Resource = "apps", "deployments"
	case 1:
		k.Resource = "podsx"
	}
	return k
}

func (h *history) event() events.Event {
	h.next++
	h.clock = h.clock.Add(time.Duration(h.r.IntN(5)-1) * time.Second) // now and then it goes back
	k := h.key()
	e := events.Event{Sequence: h.next, Stored: h.clock, ID: fmt.Sprint("id-", h.next), Source: "test", Actor: "system:test", Time: h.clock.Add(-time.Millisecond),
		Subject: events.Subject{Class: events.Desired, Key: k}, Cause: h.next / 2, Correlation: h.next / 3, Reason: strings.Repeat("r", h.r.IntN(3))}
	uid, alive := h.living[k]
	kind := strings.TrimSuffix(k.Resource, "s")
	switch n := h.r.IntN(10); {
	case n < 4 && alive && h.r.IntN(8) > 0: // an update
		e.Type = events.TypeOf(kind, events.Updated)
	case n < 4: // a creation, sometimes over a living object
		h.uids++
		uid = fmt.Sprint("uid-", h.uids)
		e.Type = events.TypeOf(kind, events.Created)
	case n < 8: // a report
		e.Subject.Class, e.Type = events.Observed, events.TypeOf(kind, "reported")
		if !alive || h.r.IntN(4) == 0 {
			uid = fmt.Sprint("uid-", h.r.IntN(h.uids+1))
		}
	default:
		e.Type = events.TypeOf(kind, events.Deleted)
		if !alive {
			uid = "uid-none"
		}
	}
	e.UID = uid
	h.fill(&e)
	switch {
	case e.IsDeletion():
		delete(h.living, k)
	case e.Subject.Class == events.Desired:
		h.living[k] = uid
	}
	return e
}

func (h *history) fill(e *events.Event) {
	if h.r.IntN(2) == 0 {
		e.Subject.Node = fmt.Sprint("node-", h.r.IntN(3))
	}
	meta := map[string]any{"uid": e.UID}
	obj := map[string]any{"metadata": meta}
	if e.Subject.Class == events.Observed || h.r.IntN(5) == 0 {
		obj["status"] = map[string]any{"n": e.Sequence}
		if h.r.IntN(6) == 0 {
			obj["status"] = nil
		}
	}
	if e.Subject.Class == events.Desired {
		meta["name"] = e.Subject.Key.Name
		obj["spec"] = map[string]any{"n": h.r.IntN(3)}
		if h.r.IntN(3) == 0 {
			meta["ownerReferences"] = []map[string]any{{"uid": fmt.Sprint("owner-", h.r.IntN(3))}}
		}
		e.Changes = json.RawMessage(`[{"op":"add","path":"/x","value":1}]`)
	}
	b, err := json.Marshal(obj)
	if err != nil {
		panic(err)
	}
	e.Object = b
}

func (h *history) events(n int) []events.Event {
	out := make([]events.Event, n)
	for i := range out {
		out[i] = h.event()
	}
	return out
}
