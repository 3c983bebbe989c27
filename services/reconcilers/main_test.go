package reconcilers_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

// TestMain: every goroutine of ours has an owner and an end. The API server that these tests run leaves some of
// upstream's behind for a while or for good (its health check "log", timers of its watch caches, idle HTTP/2
// connections): a leak counts where code of ours is on its stack or has started it.
func TestMain(m *testing.M) {
	code := m.Run()
	if err := goleak.Find(); err != nil && code == 0 && strings.Contains(err.Error(), "github.com/orlog-io/orlog/") {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}
