package tail

import (
	"testing"

	"go.uber.org/goleak"
)

// TestMain: every goroutine has an owner and an end.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
