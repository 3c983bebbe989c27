package nodelifecycle

import (
	"testing"

	"github.com/orlog-io/orlog/services/loop/looptest"
)

func TestGolden(t *testing.T) {
	looptest.Golden(t, Nodes{}, "testdata/nodes")
	looptest.Golden(t, Eviction{}, "testdata/eviction")
}
