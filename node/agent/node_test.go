package agent

import (
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/orlog-io/orlog/node/agent/ladder"
)

// TestReportKeepsWhatOthersAdvertise: extended resources of device plugins and administrators stay in the node's
// status; what the agent itself measures replaces what was there.
func TestReportKeepsWhatOthersAdvertise(t *testing.T) {
	five, one := resource.MustParse("5"), resource.MustParse("1")
	own := v1.ResourceList{v1.ResourceCPU: one}
	keepExtended(own, v1.ResourceList{v1.ResourceCPU: five, "hugepages-2Mi": five, "example.com/gpu": five, "scheduling.k8s.io/foo": five,
		"kubernetes.io/batch": five, "node.kubernetes.io/thing": five})
	if want := (v1.ResourceList{v1.ResourceCPU: one, "example.com/gpu": five, "scheduling.k8s.io/foo": five}); !ladder.EqualJSON(own, want) {
		t.Errorf("got %v, want %v", own, want)
	}
}
