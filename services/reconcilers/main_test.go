package reconcilers_test

import (
	"testing"

	"go.uber.org/goleak"
)

// TestMain: every goroutine has an owner and an end, but for two of upstream's: its health check "log" ticks for
// ever, and a read that has waited for the watch cache leaves a timer for some seconds.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("k8s.io/apimachinery/pkg/util/wait.Forever"),
		goleak.IgnoreTopFunction("k8s.io/apiserver/pkg/storage/cacher.(*watchCache).waitUntilFreshAndBlock.func2"))
}
