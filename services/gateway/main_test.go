package gateway

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

// TestMain: every goroutine of ours has an owner and an end. Upstream's API server leaves some of its own behind
// where it is stopped before it was ready (post-start hooks that wait for caches, delaying queues, the health
// check "log"): a leak counts where code of ours is on its stack or has started it.
func TestMain(m *testing.M) {
	code := m.Run()
	if err := goleak.Find(); err != nil && code == 0 && strings.Contains(err.Error(), "github.com/orlog-io/orlog/") {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}
