package scheduler

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/orlog-io/orlog/events"
)

// Bounds of what a record names: the counts are always complete.
const (
	namedRefusals = 8
	namedScores   = 3
)

// Record is why a pod went where it went: the reason of the scheduler's events.
type Record struct {
	// View is the sequence of the log that was decided on, Assumed how many pods of the same batch were
	// placed before and counted in.
	View    events.Sequence `json:"view"`
	Assumed int             `json:"assumed,omitempty"`
	// Node is where the pod goes, "" where no node is feasible.
	Node string `json:"node,omitempty"`
	// Nodes is how many there are, Feasible how many passed all filters, Filtered how many each refused.
	Nodes    int            `json:"nodes"`
	Feasible int            `json:"feasible"`
	Filtered map[string]int `json:"filtered,omitempty"`
	// Refused says of some nodes why not.
	Refused map[string]string `json:"refused,omitempty"`
	// Scores are those of the best nodes, best first.
	Scores []Score `json:"scores,omitempty"`
	// Message is what the pod's condition says where no node is feasible.
	Message string `json:"message,omitempty"`
	// Nominated is the node on which room is made for the pod, Preempts which pods have to go from it.
	Nominated string   `json:"nominated,omitempty"`
	Preempts  []string `json:"preempts,omitempty"`

	reasons map[string]int
	helpful []*nodeInfo // refused the pod, but might not if pods went from it
}

// Score is a node's weighted score, by scorer.
type Score struct {
	Node  string           `json:"node"`
	Total int64            `json:"total"`
	By    map[string]int64 `json:"by,omitempty"`
}

func newRecord(nodes int) Record {
	return Record{Nodes: nodes, Filtered: map[string]int{}, Refused: map[string]string{}, reasons: map[string]int{}}
}

func (r *Record) refuse(n *nodeInfo, filter string, reasons []string) {
	r.Filtered[filter]++
	if resolvable[filter] {
		r.helpful = append(r.helpful, n)
	}
	if len(r.Refused) < namedRefusals {
		r.Refused[n.node.Name] = strings.Join(reasons, ", ")
	}
	for _, reason := range reasons {
		r.reasons[reason]++
	}
}

func (r *Record) choose(order []ranked) {
	r.Node = order[0].node.node.Name
	for _, o := range order[:min(len(order), namedScores)] {
		r.Scores = append(r.Scores, Score{o.node.node.Name, o.total, o.scores})
	}
}

// explain is the message of kubectl describe, as upstream's.
func (r *Record) explain() string {
	if r.Nodes == 0 {
		return "no nodes available to schedule pods"
	}
	var parts []string
	for reason, n := range r.reasons {
		parts = append(parts, fmt.Sprintf("%d %s", n, reason))
	}
	slices.Sort(parts)
	return fmt.Sprintf("0/%d nodes are available: %s.", r.Nodes, strings.Join(parts, ", "))
}

func (r Record) json() string {
	b, err := json.Marshal(r)
	if err != nil {
		return err.Error() // cannot happen: strings and numbers
	}
	return string(b)
}
