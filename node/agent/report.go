package agent

import (
	"encoding/json"
	"path/filepath"
	"slices"
	"time"

	v1 "k8s.io/api/core/v1"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/node/agent/ladder"
	"github.com/orlog-io/orlog/node/agent/outbox"
)

// settle is how long a status that tells of nothing final waits for the next one: a pod that starts at once is
// reported running, without the steps in between.
const settle = 500 * time.Millisecond

// report puts the pod's status into the outbox if it changed.
func (w *worker) report(s ladder.Situation) {
	if s.Gone || w.rec.Stopped || len(w.rec.Containers) == 0 && over(s.Pod) {
		return
	}
	st := ladder.Status(s, w.status, w.a.o.NodeIPs)
	w.backOffEvents(s.Pod, w.status, st)
	w.status = st
	if st.Phase == v1.PodFailed || st.Phase == v1.PodSucceeded {
		w.release()
	}
	if ladder.SameStatus(st, w.reported) || w.stands(s, st) {
		return
	}
	verbs, kept := ladder.Changes(w.reported, st)
	verb := ladder.VerbReported
	if len(verbs) > 0 {
		verb = verbs[0]
	}
	hold := settle
	if kept || slices.Contains(verbs, ladder.VerbReady) || slices.Contains(verbs, ladder.VerbUnready) {
		hold = 0
	}
	w.put(verb, verbs, st, kept, hold)
}

// stands tells whether a status is on the log already: the agent may have died between appending it and remembering
// that. It matters only before the first report of this life.
func (w *worker) stands(s ladder.Situation, st *v1.PodStatus) bool {
	if _, waiting := w.a.outbox.Newest(w.key, w.uid); w.spoke || waiting || !ladder.SameStatus(st, &s.Pod.Status) {
		return false
	}
	w.reported = st
	return true
}

// reportStopped is the pod's last word: nothing of it runs, nothing of it is left on the node.
func (w *worker) reportStopped(s ladder.Situation) {
	if s.Gone {
		return
	}
	st := w.reported
	if len(w.rec.Containers) > 0 || !over(s.Pod) {
		st = ladder.Status(s, w.status, w.a.o.NodeIPs)
		w.status = st
	}
	w.put(ladder.VerbStopped, []string{ladder.VerbStopped}, st, true, 0)
}

func (w *worker) put(verb string, verbs []string, st *v1.PodStatus, kept bool, hold time.Duration) {
	raw, err := json.Marshal(st)
	if err != nil {
		w.try("encoding the status", err)
		return
	}
	reason := ""
	if len(verbs) > 1 { // one report may tell several things at once
		b, err := json.Marshal(map[string][]string{"changes": verbs})
		if err != nil {
			w.try("encoding the reason", err)
			return
		}
		reason = string(b)
	}
	w.mu.Lock()
	cause, correlation, traceParent := w.seen.Cause, w.seen.Correlation, w.seen.TraceParent
	w.mu.Unlock()
	if correlation == 0 {
		correlation = cause
	}
	err = w.a.outbox.Put(outbox.Report{Key: w.key, UID: w.uid, Type: events.TypeOf("pod", events.Verb(verb)), Kept: kept, Status: raw,
		Cause: cause, Correlation: correlation, TraceParent: traceParent, Reason: reason, Time: time.Now(), Hold: hold})
	if err != nil {
		w.try("reporting", err)
		return
	}
	w.reported, w.spoke = st, true
	w.try("saving the status", writeFile(filepath.Join(w.a.records.podDir(w.uid), "status.json"), st))
}

func decodeStatus(raw []byte) *v1.PodStatus {
	st := &v1.PodStatus{}
	if json.Unmarshal(raw, st) != nil {
		return nil
	}
	return st
}

// mergeStatus keeps what other writers put into a status: conditions that are not the node's own.
func mergeStatus(key events.Key, status, current json.RawMessage) (json.RawMessage, error) {
	switch key.Resource {
	case "pods":
		own := map[string]bool{}
		for _, t := range ladder.Own {
			own[string(t)] = true
		}
		return mergeConditions(status, current, own)
	case "nodes":
		own := map[string]bool{}
		for _, t := range nodeConditions {
			own[string(t)] = true
		}
		return mergeConditions(status, current, own)
	}
	return status, nil
}

// mergeConditions is status with those conditions of current that are not the writer's own, and without such
// conditions that current has no more.
func mergeConditions(status, current json.RawMessage, own map[string]bool) (json.RawMessage, error) {
	var s map[string]json.RawMessage
	var mine, theirs []json.RawMessage
	if err := json.Unmarshal(status, &s); err != nil {
		return nil, err
	}
	var c struct {
		Conditions []json.RawMessage `json:"conditions"`
	}
	if err := json.Unmarshal(current, &c); err != nil {
		return nil, err
	}
	if raw, has := s["conditions"]; has {
		if err := json.Unmarshal(raw, &mine); err != nil {
			return nil, err
		}
	}
	typeOf := func(raw json.RawMessage) string {
		var t struct {
			Type string `json:"type"`
		}
		if json.Unmarshal(raw, &t) != nil {
			return ""
		}
		return t.Type
	}
	mine = slices.DeleteFunc(mine, func(r json.RawMessage) bool { return !own[typeOf(r)] })
	for _, r := range c.Conditions {
		if !own[typeOf(r)] {
			theirs = append(theirs, r)
		}
	}
	all, err := json.Marshal(append(mine, theirs...))
	if err != nil {
		return nil, err
	}
	s["conditions"] = all
	return json.Marshal(s)
}
