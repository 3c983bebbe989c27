package quota

import (
	"testing"

	"github.com/orlog-io/orlog/services/loop/looptest"
)

func TestGolden(t *testing.T) { looptest.Golden(t, Reconciler{}, "testdata") }
