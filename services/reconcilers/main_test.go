package reconcilers_test

import (
	"testing"

	"go.uber.org/goleak"
)

// TestMain: every goroutine has an owner and an end, but for one of upstream's, for the life of the process: its
// health check "log" ticks for ever.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("k8s.io/apimachinery/pkg/util/wait.Forever"))
}
