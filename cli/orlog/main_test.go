package main

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

// asOrlog, where set, has the test binary be orlog, so that a shell can run it.
const asOrlog = "ORLOG_TEST_AS_ORLOG"

// TestMain: every goroutine has an owner and an end.
func TestMain(m *testing.M) {
	if os.Getenv(asOrlog) != "" {
		main()
		return
	}
	goleak.VerifyTestMain(m)
}
