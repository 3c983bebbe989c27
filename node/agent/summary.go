package agent

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/node/agent/spec"
	"github.com/orlog-io/orlog/node/runc"
	"github.com/orlog-io/orlog/node/stats"
)

// Summary is what the node's pods use, in the shape of the kubelet's /stats/summary (the part that people read).
type Summary struct {
	Node SummaryNode  `json:"node"`
	Pods []SummaryPod `json:"pods"`
}

// SummaryNode is the machine as a whole.
type SummaryNode struct {
	NodeName string         `json:"nodeName"`
	CPU      *SummaryCPU    `json:"cpu,omitempty"`
	Memory   *SummaryMemory `json:"memory,omitempty"`
}

// SummaryPod is one pod.
type SummaryPod struct {
	PodRef     SummaryRef         `json:"podRef"`
	StartTime  time.Time          `json:"startTime"`
	Containers []SummaryContainer `json:"containers"`
	CPU        *SummaryCPU        `json:"cpu,omitempty"`
	Memory     *SummaryMemory     `json:"memory,omitempty"`
}

// SummaryRef names a pod.
type SummaryRef struct {
	Name      string `json:"name"`
	Namespace string `json:"namespace"`
	UID       string `json:"uid"`
}

// SummaryContainer is one running container.
type SummaryContainer struct {
	Name      string         `json:"name"`
	StartTime time.Time      `json:"startTime"`
	CPU       *SummaryCPU    `json:"cpu,omitempty"`
	Memory    *SummaryMemory `json:"memory,omitempty"`
}

// SummaryCPU is processor time since the start.
type SummaryCPU struct {
	Time                 time.Time `json:"time"`
	UsageCoreNanoSeconds uint64    `json:"usageCoreNanoSeconds"`
}

// SummaryMemory is in bytes.
type SummaryMemory struct {
	Time            time.Time `json:"time"`
	UsageBytes      uint64    `json:"usageBytes"`
	WorkingSetBytes uint64    `json:"workingSetBytes"`
	RSSBytes        uint64    `json:"rssBytes"`
	PageFaults      uint64    `json:"pageFaults"`
	MajorPageFaults uint64    `json:"majorPageFaults"`
}

func summarize(u stats.Usage) (*SummaryCPU, *SummaryMemory) {
	return &SummaryCPU{u.Time, uint64(u.CPU)}, &SummaryMemory{u.Time, u.Memory, u.WorkingSet, u.RSS, u.PageFaults, u.MajorFaults}
}

// serveSummary answers GET /stats/summary. A pod that ends while it is looked at is left out.
func (a *Agent) serveSummary(w http.ResponseWriter, r *http.Request) {
	out := Summary{Node: SummaryNode{NodeName: a.o.NodeName}, Pods: []SummaryPod{}}
	if u, err := a.usage.Read("/"); err == nil {
		out.Node.CPU, out.Node.Memory = summarize(u)
	}
	for _, worker := range a.all() {
		pod, running := worker.holds()
		if !running {
			continue
		}
		p := SummaryPod{PodRef: SummaryRef{pod.Name, pod.Namespace, string(pod.UID)}, Containers: []SummaryContainer{}}
		if pod.Status.StartTime != nil {
			p.StartTime = pod.Status.StartTime.Time
		}
		u, err := a.usage.Read(spec.CgroupParent(a.o.CgroupRoot, pod))
		if err != nil {
			continue
		}
		p.CPU, p.Memory = summarize(u)
		list, err := a.o.Runtime.Status(r.Context(), worker.uid)
		if err != nil {
			continue
		}
		for _, st := range list {
			if u, err := a.usage.Read(st.Cgroup); err == nil && st.State == runc.Running {
				c := SummaryContainer{Name: st.Name, StartTime: st.StartedAt}
				c.CPU, c.Memory = summarize(u)
				p.Containers = append(p.Containers, c)
			}
		}
		out.Pods = append(out.Pods, p)
	}
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(out); err != nil {
		a.log.Debug("answer /stats/summary", events.LogError, err) // the client has gone
	}
}
